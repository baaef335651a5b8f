"""A loss that what an optimizer holds decided on only through the step of another optimizer."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for one in sources.ends_at_steps:
        names = sources.listed([sources.names.of(leaf) for leaf in one.leaves])
        first, inner, step = (index.op_line(op) for op in (one.given, one.inner, one.step))
        applies = f"what line {step} ({index.func(one.step)}) applies is the gradient of the loss of line {first}"
        if one.cleared >= 0:
            applies = f"line {step} ({index.func(one.step)}) has nothing to apply, as line "
            applies += f"{index.op_line(one.cleared)} cleared the gradient of the loss of line {first}"
        causes = [*sources.cause("step", one.inner), *sources.cause("backward", one.given)]
        yield sources.finding(
            f"{sources.backward_at(one.outer, causes)} gave {names} no gradient ({one.rounds:,} times)",
            why=f"the weights that its loss was computed with are what line {inner} ({index.func(one.inner)}) wrote in "
            f"place, and no graph leads through a step; {applies}",
            op=one.outer,
            tensors=one.leaves,
            causes=[*causes, *sources.cause("backward", one.outer)],
            evidence=[Evidence("ops", op) for op in (one.given, one.inner, one.outer, one.step)],
            advice="Compute the inner step in the graph: w - lr * g with autograd.grad(..., create_graph=True), and "
            "torch.func.functional_call with the result.",
        )


DIAGNOSIS = Diagnosis(
    code="graph-ends-at-step",
    title="a loss that leads to what is learned only through another optimizer's step",
    severity="warning",
    explanation=Explanation(
        meaning="""In each round one pass gave gradients to weights and to what another optimizer holds, a step wrote
            the weights, and a later pass, from what was computed with them then, gave gradients to the weights alone,
            which no step applied. Right after it came the other optimizer's step.""",
        reason="""An optimizer's step writes its parameters in place, under no_grad: they are leaves as before, and
            nothing leads back from their new values to what the gradients were computed from. A hyperparameter, a
            weight of losses or a learned learning rate gets no gradient from the loss on held-out data, and is moved
            by that of the training loss, if by any.""",
        remedy="""Compute the inner step out of place, w - lr * g with g of autograd.grad(..., create_graph=True), and
            the outer loss with torch.func.functional_call. Where only the outer pass is of no use, leave it out.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

model, weight = nn.Linear(2, 1), nn.Parameter(torch.tensor(0.5))
inner = torch.optim.SGD(model.parameters(), lr=0.1)
outer = torch.optim.Adam([weight], lr=0.1)
x, held_out = torch.randn(8, 2), torch.randn(8, 2)
for step in range(4):
    inner.zero_grad()
    outer.zero_grad()
    (weight * model(x).pow(2).mean()).backward()
    inner.step()
    model(held_out).pow(2).mean().backward()
    outer.step()
""",
        instead_of="model(held_out).pow(2).mean().backward()",
        silent="(weight * model(held_out).pow(2).mean()).backward()",
    ),
    find=_find,
)
