"""A custom Function that is applied, and whose result nothing takes: its backward never runs."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.applies_dropped import applied_in_vain


def _find(sources: Sources) -> Iterator[Finding]:
    for one in applied_in_vain(sources.index, sources.names_held):
        found = one.found
        line = sources.index.line(found.file, found.line)
        yield sources.finding(
            f"Line {line}: nothing takes what {found.called}() gives, and {found.owner} stays as it is",
            why=f"the node of {found.function} hangs on that result, and its backward does not run without it",
            op=one.op,
            tensors=[one.tensor],
            causes=[sources.cause_of_line("used", found.file, found.line, found.end_line, found.inside)],
            advice=f"Go on with the result: {found.owner} = {found.called}(…).",
        )


DIAGNOSIS = Diagnosis(
    code="apply-dropped",
    title="a custom Function is applied, and nothing takes the result",
    severity="warning",
    explanation=Explanation(
        meaning="""A statement in a function is nothing but a call of a custom Function's apply (or of a function that
            only returns what apply gives), with a tensor that requires grad. The code goes on with that tensor, not
            with the result. Functions whose forward does something besides are left out, and calls under try, in a
            test, or beside a clock.""",
        reason="""apply changes none of its arguments. The node that runs backward belongs to the tensor that apply
            gives, which has to be part of the loss: a gradient that is scaled, turned round or added on the way back
            is none without it.""",
        remedy="Go on with the result: weights = AuxiliaryLoss.apply(weights, loss).",
    ),
    example=Example(
        shows="""\
import torch

class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -grad

def loss(w):
    features = w * 2
    Reverse.apply(features)
    return features.sum()

w = torch.ones(3, requires_grad=True)
loss(w).backward()
""",
        instead_of="Reverse.apply(features)",
        silent="features = Reverse.apply(features)",
    ),
    find=_find,
)
