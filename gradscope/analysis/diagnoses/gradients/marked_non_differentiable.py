"""An output of a custom Function that is marked as non-differentiable, though its gradient is computed with."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.marked_outputs import marked_outputs


def _find(sources: Sources) -> Iterator[Finding]:
    for found in marked_outputs(sources.index, sources.passes):
        yield sources.finding(
            f"Line {found.marked.line}: {found.function} marks its output {found.name} as non-differentiable",
            why=f"a loss computed from it trains nothing behind it, and {found.argument}, with which backward computes "
            "a gradient, is never more than zeros",
            op=found.op,
            tensors=[found.tensor],
            causes=sources.causes_at("cut", [found.marked]),
            advice=f"Leave {found.name} out of ctx.mark_non_differentiable.",
        )


DIAGNOSIS = Diagnosis(
    code="marked-non-differentiable",
    title="an output of a Function is marked as non-differentiable, and its gradient is meant",
    severity="warning",
    explanation=Explanation(
        meaning="""The forward of a custom Function marks an output with ctx.mark_non_differentiable, a loss was
            computed from that output, and by its source backward computes what it returns with that output's
            gradient.""",
        reason="""A marked output requires no grad: what is computed from it has no graph, and backward is given zeros
            for it (or None, where ctx.set_materialize_grads(False) was called). Nothing fails, and what made the
            output does not learn from it.""",
        remedy="""Mark only what has no derivative: indices, counts, masks. An integer tensor needs no mark. Where no
            gradient is meant, take the one of that output out of backward.""",
    ),
    example=Example(
        shows="""\
import torch

class Wave(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        sin, cos = x.sin(), x.cos()
        ctx.save_for_backward(sin, cos)
        ctx.mark_non_differentiable(cos)
        return sin, cos

    @staticmethod
    def backward(ctx, of_sin, of_cos):
        sin, cos = ctx.saved_tensors
        return of_sin * cos - of_cos * sin

x = torch.rand(3, requires_grad=True)
sin, cos = Wave.apply(x)
(sin + cos.pow(2)).sum().backward()
""",
        instead_of="ctx.mark_non_differentiable(cos)",
        silent="ctx.mark_non_differentiable()",
    ),
    find=_find,
)
