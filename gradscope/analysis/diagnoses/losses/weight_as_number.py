"""A learned parameter that weighs a loss as a plain number: what it weighs gives it no gradient."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.weights_as_numbers import WeightsAsNumbers
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index, said = sources.index, set[int]()
    for found in WeightsAsNumbers(index, sources.flow, sources.events, sources.gradients).found():
        if found.tensor in said:
            continue
        said.add(found.tensor)
        line, used = index.op_line(found.export), index.op_line(found.used)
        into = "" if used == line else f" (line {used})"
        yield sources.finding(
            f"Line {line}: the values of {sources.names.at(found.tensor, found.op)} left torch "
            f"({index.call_name(found.export)}) and went into {sources.names.of(found.root)} as plain numbers{into}, "
            "through which no gradient comes back",
            why="all the gradient that it gets comes from a term of its own, whatever the numbers weigh",
            op=found.op,
            tensors=[found.tensor, found.root],
            causes=sources.cause("cut", found.export),
            evidence=[Evidence("ops", found.export), Evidence("ops", found.used)],
            advice="Compute with the tensor: torch.exp in place of math.exp, no item() and no float().",
        )


DIAGNOSIS = Diagnosis(
    code="weight-as-number",
    title="a learned weight that went into the loss as a plain number",
    severity="warning",
    explanation=Explanation(
        meaning="""The values of a parameter that an optimizer holds left torch (item(), float(), math.exp, NumPy), and
            a loss was computed with the numbers. The parameter got a gradient in the same backward pass, but only by
            terms that are made of nothing but itself, such as the log of a learned scale.""",
        reason="""Autograd does not follow plain numbers. What is weighed tells the parameter nothing, and its own term
            alone moves it: learned weights of losses all drift the same way, without an end.""",
        remedy="""Keep the parameter a tensor all the way into the loss: torch.exp(s) in place of math.exp(s). Take
            numbers out for logs only.""",
    ),
    example=Example(
        shows="""\
import math

import torch

net, log_scale = torch.nn.Linear(3, 1), torch.nn.Parameter(torch.zeros(1))
optimizer = torch.optim.SGD([*net.parameters(), log_scale], lr=0.1)
for step in range(3):
    error = net(torch.randn(8, 3)).pow(2).mean()
    weight = math.exp(-log_scale.item())
    loss = weight * error + log_scale.sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
        instead_of="weight = math.exp(-log_scale.item())",
        silent="weight = torch.exp(-log_scale).sum()",
    ),
    find=_find,
)
