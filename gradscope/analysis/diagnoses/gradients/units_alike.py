"""Hidden layers whose units all began with the same weights, and get the same gradients: they stay one unit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.derivatives.same_shape import goes_into_a_product, met_at_its_shape
from gradscope.analysis.facts.leaf_gradients.factors_of_zero import given_values_at
from gradscope.analysis.facts.passes.gradient_lives import ops_between
from gradscope.analysis.facts.value_looks import PassLook
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.worded_lines import numbers
from gradscope.recording.flags import PARAMETER

LOOKS = 3
"""Passes looked at, all that gave the weight a gradient, from which on it is reported."""


class _Alike(NamedTuple):
    """A weight whose values are the same along a dimension, in all passes looked at."""

    tensor: int
    dim: int
    size: int
    passes: list[PassLook]


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for all hidden layers: weights into units and weights out of as many, both the same for each unit."""
    weights = _alike(sources)
    pairs = [
        (into, out)
        for into in weights
        for out in weights
        if into.tensor < out.tensor and into.size == out.size and {into.dim, out.dim} == {0, 1}
    ]
    if pairs:
        yield _finding(sources, pairs)


def _alike(sources: Sources) -> list[_Alike]:
    """Weights that steps changed, and whose units were the same in each pass that was looked at.

    Not one that meets another parameter of its shape whose units differ, as the rho of a random weight meets its mu,
    nor one that is no weight of a product: the rho of what is drawn without a gradient.
    """
    looked: dict[int, list[PassLook]] = {}
    for look in sources.looks:
        for leaf in look.gradients:
            looked.setdefault(leaf, []).append(look)
    found = []
    for leaf, passes in looked.items():
        steps = sources.lives.steps.get(leaf, [])
        if len(passes) < LOOKS or not ops_between(steps, passes[0].op, passes[-1].op):
            continue
        for dim in (0, 1):
            if all((leaf, dim) in look.alike for look in passes):
                found.append(_Alike(leaf, dim, _size(sources, leaf, dim), passes))
    alike = {(one.tensor, one.dim) for one in found}
    return [
        one
        for one in found
        if goes_into_a_product(sources.index, one.tensor, one.passes[0].op)
        and all((other, one.dim) in alike for other in _met(sources, one))
    ]


def _met(sources: Sources, one: _Alike) -> set[int]:
    """The parameters with which a weight makes one value for each of its elements."""
    flags = sources.index.recording.tensors.column("flags")
    met = met_at_its_shape(sources.index, one.tensor, one.passes[0].op)
    return {other for other in met if flags[other] & PARAMETER}


def _size(sources: Sources, tensor: int, dim: int) -> int:
    layouts = sources.index.recording.layouts
    shape = sources.index.recording.text(layouts[sources.index.recording.tensors.column("layout")[tensor]].shape)
    return int(shape.strip("()").split(",")[dim])


def _finding(sources: Sources, pairs: list[tuple[_Alike, _Alike]]) -> Finding:
    index, into = sources.index, pairs[0][0]
    tensors = sorted({one.tensor for pair in pairs for one in pair})
    names = sources.listed([sources.names.of(tensor) for tensor in tensors])
    written = sorted({given_values_at(index, tensor, into.passes[0].op) for tensor in tensors}, reverse=True)
    causes: list[Cause] = [cause for op in written for cause in sources.cause("write", op)]
    lines = {cause.line for cause in causes}
    where = f"Line{'s' * (len(lines) > 1)} {numbers(lines)}: " if lines else ""
    text = f"{where}{names} began with the same values for each of {into.size} units"
    return sources.finding(
        text if where else f"{text[0].upper()}{text[1:]}",
        why=f"the units get the same gradients (in all {len(into.passes)} backward passes looked at) and stay so: "
        "the layer is worth one unit",
        op=into.passes[-1].op,
        tensors=tensors,
        causes=causes,
        evidence=[Evidence("events", look.event) for look in into.passes],
        advice="Begin with random weights (nn.init.xavier_uniform_, kaiming_uniform_); biases may be zero.",
    )


DIAGNOSIS = Diagnosis(
    code="units-alike",
    title="a hidden layer whose units are all the same",
    severity="warning",
    explanation=Explanation(
        meaning="""The weights into a hidden layer, and those out of it, were the same for each of its units, and so
            were their gradients in every pass that was looked at, while steps changed them. (On the CPU; on a device
            that is not looked at.)""",
        reason="""Units with the same weights compute the same, get the same gradient, and are the same after each step.
            Constant weights never become different by training: what breaks the tie is a random beginning.""",
        remedy="""Leave the initialisation that nn.Linear has, or take one of torch.nn.init that draws random numbers.
            Constants are for biases and for the factors of norms.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
for layer in (net[0], net[2]):
    nn.init.constant_(layer.weight, 0.1)
    nn.init.zeros_(layer.bias)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
inputs = torch.randn(8, 3)
for step in range(4):
    optimizer.zero_grad()
    (net(inputs) - inputs.sum(1, keepdim=True)).pow(2).mean().backward()
    optimizer.step()
""",
        instead_of="nn.init.constant_(layer.weight, 0.1)",
        silent="nn.init.normal_(layer.weight, 0.1)",
    ),
    find=_find,
)
