"""A derivative that is computed by ``backward()``, which leaves gradients in the parameters that a step applies too."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.derivatives_left import derivatives_left
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in derivatives_left(index, sources.passes, sources.lives):
        names = sources.listed([sources.names.of(tensor) for tensor in found.parameters])
        by, of = (sources.names.at(tensor, found.derivative) for tensor in (found.by, found.of))
        yield sources.finding(
            f"Line {index.op_line(found.derivative)}: backward computes the derivative of {of} by {by}, and adds that "
            f"by {names} to their .grad as well",
            why=f"line {index.op_line(found.step)} ({index.func(found.step)}) applied the sum of it and the gradients "
            f"of the loss ({index.times(found.steps):,} times)",
            op=found.derivative,
            tensors=found.parameters,
            causes=[*sources.cause("backward", found.derivative), *sources.cause("step", found.step)],
            evidence=[Evidence("ops", found.derivative), Evidence("ops", found.own)],
            advice=f"torch.autograd.grad(…, {by}, create_graph=True) gives the derivative, and leaves .grad alone.",
        )


DIAGNOSIS = Diagnosis(
    code="derivative-left-in-grad",
    title="a pass made for a derivative leaves gradients that a step applies",
    severity="warning",
    explanation=Explanation(
        meaning="""backward(create_graph=True) was called to get the derivative of a result by an input from the
            input's .grad. It added gradients to the .grad of the parameters too, and the optimizer's step applied
            them together with those of the loss that was computed from the derivative and the result.""",
        reason="""backward() adds gradients to all leaves behind what it starts from. Those of the energy itself, by the
            weights, are no part of the gradient of the loss: each step also makes the energy smaller.""",
        remedy="""torch.autograd.grad(energy.sum(), positions, create_graph=True), or backward(..., inputs=[positions]).
            Or call zero_grad() after that pass, before the one of the loss.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    positions = torch.rand(5, 3, requires_grad=True)
    optimizer.zero_grad()
    energy = model(positions)
    energy.sum().backward(create_graph=True)
    forces = -positions.grad
    loss = energy.pow(2).mean() + forces.pow(2).mean()
    loss.backward()
    optimizer.step()
""",
        instead_of="energy.sum().backward(create_graph=True)",
        silent="energy.sum().backward(create_graph=True, inputs=[positions])",
    ),
    find=_find,
)
