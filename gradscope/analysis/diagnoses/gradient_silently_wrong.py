"""A gradient computed from changed values, of which autograd could not know."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index, writes = sources.index, sources.writes
    for write in writes.judged:
        if write.effect.effect != "silently_wrong":
            continue
        saved_at, backward = writes.saved_at(write), write.effect.backward_op
        yield sources.finding(
            f"Line {index.op_place(write.op).line}: {index.func(write.op)} through {sources.names.of(write.tensor)} "
            f"changed memory that line {index.op_line(saved_at)} had saved for backward ({writes.saved_as(write)}), "
            "past autograd's version counter",
            why=f"the gradient of the backward at line {index.op_line(backward)} was computed from the changed values, "
            "without an error",
            op=write.op,
            tensors=[write.tensor],
            causes=[*sources.cause("write", write.op), *sources.cause("saved", saved_at)],
            evidence=[Evidence("saved", write.effect.saved_row), Evidence("ops", backward)],
        )


DIAGNOSIS = Diagnosis(
    code="gradient-silently-wrong",
    title="a gradient computed from values that were changed behind autograd's back",
    severity="problem",
    explanation=Explanation(
        meaning="""Memory that an operation had saved for backward was written through a tensor with another
            version counter; a later backward pass used the changed values, and nothing was raised.""",
        reason="""detach() and views share the version counter of their base, so a write through them is noticed.
            .data (and numpy() and the like) gives a tensor with a counter of its own on the same memory: autograd
            compares the old counter, finds it unchanged, and computes with what lies there now.""",
        remedy="""Write through detach() under torch.no_grad(), so that autograd can notice; or write into a
            clone(), or after backward.""",
    ),
    example=Example(
        shows="""\
import torch

x = torch.ones(3, requires_grad=True)
y = x.sigmoid()
loss = y.sum()
y.data.zero_()
loss.backward()
""",
        instead_of="y.data.zero_()",
        silent="y.data.clone().zero_()",
    ),
    find=_find,
)
