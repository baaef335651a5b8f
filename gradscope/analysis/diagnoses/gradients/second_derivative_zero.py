"""A second derivative of a network whose activations are linear piece by piece: there is none."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.zero_second_derivatives import PIECEWISE, ZeroSecond, zero_second_derivatives
from gradscope.analysis.facts.modules.places_of_modules import places_of_modules
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.worded_lines import numbers
from gradscope.analysis.wording import listed
from gradscope.recording.flags import BELOW


def _find(sources: Sources) -> Iterator[Finding]:
    for found in zero_second_derivatives(sources.index, sources.flow, sources.looks):
        yield _finding(sources, found)


def _finding(sources: Sources, found: ZeroSecond) -> Finding:
    index, asked = sources.index, found.looks[-1]
    causes = [cause for name in found.calls for cause in _places(sources, name, found.calls[name])]
    lines = {cause.line for cause in causes}
    names = listed([PIECEWISE[name] for name in found.calls])
    of = sources.listed([sources.names.at(tensor, asked.op) for tensor in asked.gradients])
    return sources.finding(
        f"Line{'s' if len(lines) > 1 else ''} {numbers(lines)}: {names} is linear piece by piece, so there is no "
        f"second derivative by {of} (line {index.op_line(asked.op)})",
        why=f"it was zero in all {len(found.looks)} passes looked at, and what is computed from it trains nothing",
        op=asked.op,
        tensors=list(asked.gradients),
        causes=causes,
        evidence=[Evidence("events", look.event) for look in found.looks],
        advice="An activation that is smooth has one: tanh, silu, softplus, gelu, sin.",
    )


def _places(sources: Sources, name: str, calls: list[int]) -> list[Cause]:
    """Where an activation is chosen: the lines that make its modules, or those that call its function."""
    index = sources.index
    if all(index.recording.ops.column("flags")[op] & BELOW for op in calls):
        made = places_of_modules(index, PIECEWISE[name])
        if made:
            return [sources.cause_of_line("made", file, line, line, "") for file, line in made]
    return [cause for op in calls for cause in sources.cause("made", op)]


DIAGNOSIS = Diagnosis(
    code="second-derivative-zero",
    title="a second derivative through activations that have none",
    severity="warning",
    explanation=Explanation(
        meaning="""torch.autograd.grad was asked for the derivative of a derivative, and gave zeros in every pass that
            was looked at. On the way are activations that are linear piece by piece, such as ReLU.""",
        reason="""The derivative of ReLU is 0 or 1 and does not change with its input, but for a jump that has no
            derivative. A network of linear layers and ReLU is therefore a linear function piece by piece, whose second
            derivative by its input is zero. torch raises no error: a term of the loss made of it is a constant.""",
        remedy="""Take a smooth activation: torch.tanh, silu, softplus, gelu, sin.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

net = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.Adam(net.parameters())
for step in range(20):
    t = torch.rand(32, 1, requires_grad=True)
    u = net(t)
    (velocity,) = torch.autograd.grad(u.sum(), t, create_graph=True)
    (acceleration,) = torch.autograd.grad(velocity.sum(), t, create_graph=True)
    loss = (acceleration + u).pow(2).mean() + net(torch.zeros(1, 1)).pow(2).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
        instead_of="net = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 1))",
        silent="net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))",
    ),
    find=_find,
)
