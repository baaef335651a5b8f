"""Gradients that are kept without a copy, and overwritten by the next pass: what was meant as two is one."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.kept_gradients import KeptGradient, kept_gradients
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.wording import listed
from gradscope.frames.values.gradient_keeping import stored_later


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement that keeps gradients."""
    index = sources.index
    for kept in kept_gradients(index, sources.lives):
        name = sources.names.of(kept.parameter)
        causes = _stored(sources, kept.kept) or sources.cause("made", kept.kept)
        line = causes[0].line if causes else index.op_line(kept.kept)
        yield sources.finding(
            f"Line {line}: .grad of {name} itself is kept, without a copy",
            why=f"{index.call_name(kept.written)} wrote into it afterwards, and {_twice(sources, kept)}, as if it were "
            "two gradients",
            op=kept.used,
            tensors=[kept.parameter],
            causes=causes,
            evidence=[Evidence("ops", kept.written), Evidence("tensors", kept.gradient)],
            advice="grad.clone() keeps the values; torch.autograd.grad() gives new tensors each time.",
        )


def _twice(sources: Sources, kept: KeptGradient) -> str:
    if kept.names:
        return f"{listed(kept.names)} are the one tensor"
    return f"{sources.index.call_name(kept.used)} takes the one tensor twice"


def _stored(sources: Sources, read: int) -> list[Cause]:
    """The line that stores the gradient which another one gave a name for the while; empty where there is none."""
    index = sources.index
    statement = index.statements[index.op_statement[read]]
    lines = stored_later(index.recording.files[statement.file].text, index.op_line(read))
    function = index.recording.text(statement.function)
    return [sources.cause_of_line("made", statement.file, *lines, function)] if lines is not None else []


DIAGNOSIS = Diagnosis(
    code="gradient-kept-by-reference",
    title="a gradient that is kept without a copy and overwritten",
    severity="warning",
    explanation=Explanation(
        meaning=""".grad was given a name, or put into a list or dict, as it is. A later backward pass or zero_grad()
            wrote into the same tensor, and a call or statement then took it twice, where two gradients were meant.""",
        reason="""Backward adds to the tensor that is there, and zero_grad(set_to_none=False) and .grad.zero_() fill it
            with zeros: .grad stays the same tensor, and every reference to it shows the new values.""",
        remedy="""Keep p.grad.clone(), or compute the gradients with torch.autograd.grad().""",
    ),
    example=Example(
        shows="""\
import torch

w, previous = torch.ones(3, requires_grad=True), None
for step in range(3):
    if w.grad is not None:
        w.grad.zero_()
    (w * torch.randn(3)).sum().backward()
    if previous is not None:
        print((w.grad - previous).norm())
    previous = w.grad
""",
        instead_of="previous = w.grad",
        silent="previous = w.grad.clone()",
    ),
    find=_find,
)
