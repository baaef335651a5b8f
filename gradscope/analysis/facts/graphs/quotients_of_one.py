"""Quotients of a tensor and a sum of it that adds up nothing: ``w / w.sum(-1, keepdim=True)`` over a size of 1.

The result is 1 whatever goes in, and no gradient comes through it but the noise of rounding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE

RUNS = 2
"""Runs of the statement, in passes of their own, from which on it is reported."""

_QUOTIENTS = re.compile(r"(Tensor|torch)\.(__)?i?(true_)?(div|divide|truediv)(__)?_?")
_SUMS = re.compile(r"(Tensor|torch)\.(sum|norm|amax|logsumexp)|torch\.linalg\.(vector_)?norm")
_SHIFTS = re.compile(r"(Tensor|torch)\.(__)?r?(add|clamp|clamp_min|clip|maximum)(__)?_?")


class QuotientOfOne(NamedTuple):
    """The last run of a statement all of whose runs are such ones."""

    tensor: int
    sum: int
    """The op that sums it."""
    quotient: int
    runs: int


def quotients_of_one(index: Index, passes: Passes) -> Iterator[QuotientOfOne]:
    """One for each statement."""
    found: dict[int, list[QuotientOfOne]] = {}
    others = set[int]()
    nodes = index.recording.tensors.column("node")
    for op in index.calls_of(_QUOTIENTS.fullmatch):
        if index.op_statement[op] == NOWHERE:
            continue
        made = [one for one in index.tensors_made(op) if nodes[one] >= 0 and passes.first_walked_at[nodes[one]] >= 0]
        taken = list(index.uses.of(op))
        summed = _sum_of(index, taken[1], taken[0], op) if made and len(taken) == 2 else NONE
        if summed < 0:
            others.add(index.op_statement[op])
        else:
            found.setdefault(index.op_statement[op], []).append(QuotientOfOne(taken[0], summed, op, 1))
    for statement, several in found.items():
        walked = {passes.first_walked_at[nodes[index.tensors_made(one.quotient)[0]]] for one in several}
        if statement not in others and len(walked) >= RUNS:
            yield several[-1]._replace(runs=index.times(one.quotient for one in several))


def _sum_of(index: Index, divisor: int, tensor: int, before: int) -> int:
    """The op of which a divisor is the sum of a tensor, as many elements as that has; NONE where it is none."""
    made_at = index.recording.tensors.column("op")
    for _ in range(3):
        op = made_at[divisor]
        if op >= before or divisor not in index.tensors_made(op):
            return NONE
        taken = list(index.uses.of(op))
        if _SUMS.fullmatch(index.func(op)):
            is_one = taken == [tensor] and _size(index, divisor) == _size(index, tensor) > 1
            return op if is_one else NONE
        if not _SHIFTS.fullmatch(index.func(op)) or len(taken) != 1:
            return NONE
        divisor = taken[0]
    return NONE


def _size(index: Index, tensor: int) -> int:
    """How many elements a tensor has; 0 where its shape has none that is known."""
    layout = index.recording.layouts[index.recording.tensors.column("layout")[tensor]]
    count = 1
    for part in index.recording.text(layout.shape).strip("()").split(","):
        if part.strip():
            count *= int(part) if part.strip().isdigit() else 0
    return count
