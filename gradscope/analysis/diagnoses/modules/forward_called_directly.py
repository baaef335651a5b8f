"""A custom Function whose forward is called by itself, not by apply: its backward never runs."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.direct_forwards import direct_forwards


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in direct_forwards(index):
        at = found.calls or (found.forward,)
        where = f"Line {at[0].line}: " if found.calls else ""
        made = index.tensors_made(found.op)
        yield sources.finding(
            f"{where}{found.function}.forward is called by itself, not by {found.function}.apply",
            why="autograd tracks what it computes as any other code, and its backward never runs",
            op=found.op,
            tensors=made[:1],
            causes=sources.causes_at("used", at),
            advice=f"Call {found.function}.apply(…), without ctx.",
        )


DIAGNOSIS = Diagnosis(
    code="forward-called-directly",
    title="a Function's forward is called, not apply",
    severity="warning",
    explanation=Explanation(
        meaning="""What the forward of a custom Function computes was tracked by autograd, as it never is under apply:
            it was called as a plain function. The Function has a backward of its own.""",
        reason="""apply runs forward with gradients off and puts a node into the graph that calls backward. A direct
            call is a call of a Python function like any other: gradients are those of what it computes.""",
        remedy="""Call Name.apply(x). It makes ctx itself.""",
    ),
    example=Example(
        shows="""\
import torch


class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.round(x)

    @staticmethod
    def backward(ctx, grad):
        return grad


w = torch.rand(3, requires_grad=True)
y = Round.forward(None, w * 3)
y.sum().backward()
""",
        instead_of="y = Round.forward(None, w * 3)",
        silent="y = Round.apply(w * 3)",
    ),
    find=_find,
)
