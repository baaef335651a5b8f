"""Gradients that were made views of a flat buffer, and that zero_grad() has set to None."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.lost_views import LostViews, lost_views
from gradscope.analysis.report_model import Evidence

ROUNDS = 2
"""Passes after which the buffer is used from which on it is reported."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each buffer."""
    for lost in lost_views(sources.index, sources.lives):
        if sources.index.times(lost.passes) >= ROUNDS and (causes := sources.cause("cleared", lost.cleared)):
            yield sources.finding(
                f"Line {sources.index.op_line(lost.cleared)}: {_what(sources, lost)} the gradients of "
                f"{sources.listed([sources.names.of(one) for one in lost.parameters])} to None, which were views of "
                f"{sources.names.at(lost.buffer, lost.used)}",
                why="backward makes new tensors since then, and what is done with the buffer after a pass "
                f"({sources.index.times(lost.passes):,} times) changes none of them",
                op=lost.cleared,
                tensors=[lost.buffer, *lost.parameters],
                causes=causes,
                evidence=[Evidence("ops", lost.used), Evidence("ops", lost.passes[-1])],
                advice="zero_grad(set_to_none=False), or set the buffer to zero.",
            )


def _what(sources: Sources, lost: LostViews) -> str:
    name = sources.index.func(lost.cleared).rpartition(".")[2]
    return f"{name} sets" if name == "zero_grad" else "sets"


DIAGNOSIS = Diagnosis(
    code="gradient-views-lost",
    title="gradients that are views of a buffer are set to None",
    severity="warning",
    explanation=Explanation(
        meaning="""The program made .grad of several parameters views of one buffer, they were set to None, and no
            gradient is on the buffer since. The buffer is used after further passes, on its own.""",
        reason="""zero_grad() sets gradients to None unless it is told otherwise, and backward then makes new tensors.
            What is reduced, scaled or clipped in the buffer reaches none of them: its norm stays what it was.""",
        remedy="""Call zero_grad(set_to_none=False), or buffer.zero_() in its place, or make the gradients views again
            before each pass.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
flat = torch.zeros(4)
layer.weight.grad, layer.bias.grad = flat[:3].view(1, 3), flat[3:]
for step in range(4):
    optimizer.zero_grad()
    layer(torch.rand(5, 3)).pow(2).mean().backward()
    flat.clamp_(-0.1, 0.1)
    optimizer.step()
""",
        instead_of="optimizer.zero_grad()",
        silent="optimizer.zero_grad(set_to_none=False)",
    ),
    find=_find,
)
