"""A hook that looks at its gradient and changes it on the way: what it writes in place is what arrives."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each hook whose source keeps what it writes, and that never returned a gradient."""
    index = sources.index
    told: set[int] = set()
    for hook in sources.hooks.all:
        if hook.kind != "tensor" or not hook.count("in_place") or hook.count("returned"):
            continue
        writes, event = hook.source.writes_for_itself, hook.registered[0]
        causes = sources.causes_at("write", [hook.lines(*lines) for lines in writes])
        if not causes or causes[0].line in told:
            continue
        told.add(causes[0].line)
        tensors = [one.tensors[0] for one in hook.registered if one.tensors]
        names = sources.listed(list(dict.fromkeys(sources.names.of(tensor) for tensor in tensors)))
        yield sources.finding(
            f"Line {causes[0].line}: {hook.name}, a hook on {names}, writes the gradient in place to have a value of "
            "its own",
            why=f"it did so {hook.count('in_place')} times and returned nothing: what goes on is what it wrote",
            op=min(event.op, index.op_count - 1),
            tensors=tensors[:1],
            causes=causes,
            evidence=[Evidence("events", event.row)],
            advice="An operation out of place (div, not div_; x = x / n, not x /= n) leaves the gradient as it is.",
        )


DIAGNOSIS = Diagnosis(
    code="hook-changes-gradient",
    title="a hook that changes the gradient that it looks at",
    severity="warning",
    explanation=Explanation(
        meaning="""A hook on a tensor wrote the gradient that it was given in place, went on with the result for itself
            (a report, a statistic), and returned nothing. The gradient that it looked at is another one since.""",
        reason="""A hook is given the gradient itself, no copy. torch asks hooks not to modify their argument: a new
            gradient is returned. An operation whose name ends with _ writes, and so does grad /= n.""",
        remedy="""Compute what is reported out of place: unit = grad / grad.norm(). Where the gradient is to be changed,
            return the new one.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
directions = []
def look(grad):
    unit = grad.div_(grad.norm())
    directions.append(unit.clone())
w.register_hook(look)
(w * 5).sum().backward()
""",
        instead_of="unit = grad.div_(grad.norm())",
        silent="unit = grad.div(grad.norm())",
    ),
    find=_find,
)
