"""A backward pass that failed in one of the program's hooks."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each hook whose error ended a call of torch's."""
    for hook in sources.hooks.all:
        message, kind, line = (hook.did.get(name) for name in ("message", "raised", "line"))
        if not isinstance(message, str) or not isinstance(line, int) or not message:
            continue
        ended = [(op, severity) for op, _, severity in sources.raised(message)]
        if ended:
            op, severity = ended[0]
            event = hook.registered[-1]
            own = sources.causes_at("write", [hook.lines(line, line)] if line > 0 else [])
            causes = own or sources.cause_of_event("made", event)
            yield sources.finding(
                f"Line {causes[0].line if causes else 0}: {hook.name}, a hook, raised {kind} in a backward pass",
                why=message.partition("\n")[0].rstrip("."),
                op=op,
                tensors=event.tensors[:1],
                causes=causes,
                evidence=[Evidence("events", event.row)],
                severity=severity,
            )


DIAGNOSIS = Diagnosis(
    code="hook-raised",
    title="a hook that raised in a backward pass",
    severity="problem",
    explanation=Explanation(
        meaning="""A hook on a tensor raised an error, and the backward pass that ran it ended with that error.""",
        reason="""The traceback ends in backward(). Hooks run in the middle of it, with gradients that may be expanded
            memory (a sum gives one number for all elements) or shared with other tensors.""",
        remedy="Mend the line of the hook. One that writes its gradient in place should return a new one.",
    ),
    example=Example(
        shows="""\
import torch


def damp(grad):
    grad.mul_(0.1)


w = torch.ones(3, requires_grad=True)
scaled = w * 2
scaled.register_hook(damp)
scaled.sum().backward()
""",
        instead_of="grad.mul_(0.1)",
        silent="return grad * 0.1",
    ),
    find=_find,
)
