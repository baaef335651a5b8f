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
    """The statements whose second derivative was zero in each look, in the order of the run.

    One statement of a helper may ask for the first derivative and for the second: they are told apart by what they
    differentiate.
    """
    kinds = index.recording.ops.column("kind")
    by_statement: dict[int, list[PassLook]] = {}
    for look in looks:
        if kinds[look.op] == OpKind.GRAD and look.gradients:
            by_statement.setdefault(index.op_statement[look.op], []).append(look)
    found = []
    for asked in by_statement.values():
        zero = [look for look in asked if all(map(is_zero, look.gradients.values()))]
        if len(zero) < _LOOKS:
            continue
        behind = {
            look.op: {step.op for step in flow.origins_of_all(index.roots[look.op], look.op).values()} for look in asked
        }
        second = [
            look for look in asked if any(kinds[one] == OpKind.GRAD for one in behind[look.op] if one < index.op_count)
        ]
        calls = _activations(index, behind[second[-1].op]) if second else {}
        if calls and len(second) >= _LOOKS and all(look in zero for look in second):
            found.append(ZeroSecond(second, calls))
    return found


def _activations(index: Index, ops: set[int]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for op in sorted(one for one in ops if one < index.op_count):
        name = index.func(op).rpartition(".")[2].rstrip("_")
        if name in PIECEWISE:
            found.setdefault(name, []).append(op)
    return found
