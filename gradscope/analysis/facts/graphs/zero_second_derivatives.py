"""Second derivatives that were zero in every pass looked at, through activations that are linear piece by piece."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.facts.value_looks import PassLook, is_zero
from gradscope.analysis.index import Index
from gradscope.recording.rows import OpKind

_LOOKS = 3
"""Passes that must have been looked at: of weights that begin as zero it is so in the first."""

PIECEWISE = {
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "hardtanh": "Hardtanh",
    "relu6": "ReLU6",
    "prelu": "PReLU",
    "threshold": "Threshold",
}
"""Functions that are linear piece by piece, and the modules that call them."""


class ZeroSecond(NamedTuple):
    """A statement that asked for a second derivative, which was zero."""

    looks: list[PassLook]
    calls: dict[str, list[int]]
    """By the function's name, the calls of activations from which the last one came."""


def zero_second_derivatives(index: Index, flow: Flow, looks: list[PassLook]) -> list[ZeroSecond]:
    """The statements whose second derivative was zero in each look, in the order of the run."""
    kinds = index.recording.ops.column("kind")
    by_statement: dict[int, list[PassLook]] = {}
    for look in looks:
        if kinds[look.op] == OpKind.GRAD and look.gradients:
            by_statement.setdefault(index.op_statement[look.op], []).append(look)
    found = []
    for asked in by_statement.values():
        if len(asked) >= _LOOKS and all(is_zero(values) for look in asked for values in look.gradients.values()):
            op = asked[-1].op
            behind = {step.op for step in flow.origins_of_all(index.roots[op], op).values()}
            calls = _activations(index, behind)
            if calls and any(kinds[one] == OpKind.GRAD for one in behind if one < index.op_count):
                found.append(ZeroSecond(asked, calls))
    return found


def _activations(index: Index, ops: set[int]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for op in sorted(one for one in ops if one < index.op_count):
        name = index.func(op).rpartition(".")[2].rstrip("_")
        if name in PIECEWISE:
            found.setdefault(name, []).append(op)
    return found
