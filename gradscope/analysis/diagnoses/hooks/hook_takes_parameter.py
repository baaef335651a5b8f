"""A hook that runs once a gradient is there, and takes the parameter that it is given for that gradient."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each code that was counted to write its parameter, or to return what nobody takes."""
    index = sources.index
    told: set[int] = set()
    for hook in sources.hooks.all:
        if hook.kind != "accumulated" or not hook.source.takes_it_for_gradient:
            continue
        writes = bool(hook.count("in_place"))
        places = hook.source.writes_of_argument if writes else hook.source.new_values if hook.count("returned") else []
        causes = sources.causes_at("write" if writes else "returned", [hook.lines(*lines) for lines in places[:1]])
        if not causes or causes[0].line in told:
            continue
        told.add(causes[0].line)
        event = hook.registered[0]
        tensors = list(dict.fromkeys(one.tensors[0] for one in hook.registered if one.tensors))
        names = sources.listed([sources.names.of(tensor) for tensor in tensors])
        done = f"writes into {names}" if writes else f"returns a value for {names}, which nothing takes"
        yield sources.finding(
            f"Line {causes[0].line}: {hook.name} {done}, and leaves the gradients as they are",
            why="a post-accumulate-grad hook is given the parameter, not its gradient",
            op=min(event.op, index.op_count - 1),
            tensors=tensors[:1],
            causes=[*causes, *sources.cause_of_event("made", event)],
            evidence=[Evidence("events", event.row)],
            advice="Write into .grad of what it is given, or register it with register_hook and return the new "
            "gradient.",
        )


DIAGNOSIS = Diagnosis(
    code="hook-takes-parameter",
    title="a hook takes the parameter for its gradient",
    severity="warning",
    explanation=Explanation(
        meaning="""A hook of register_post_accumulate_grad_hook divides, scales or clips what it is given as if it were
            the gradient. It is the parameter: the weights are what changes, or the result is lost.""",
        reason="""Hooks of register_hook are given the gradient, and what they return takes its place. Those of
            register_post_accumulate_grad_hook run once .grad is written: they are given the parameter, and what they
            return is not used.""",
        remedy="""Write into param.grad in it: param.grad /= n. Or register it with register_hook, and return the new
            gradient.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
def average_grads(param):
    param /= 4
w.register_post_accumulate_grad_hook(average_grads)
(w * 5).sum().backward()
""",
        instead_of="param /= 4",
        silent="param.grad /= 4",
    ),
    find=_find,
)
