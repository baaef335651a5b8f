"""Element-wise calls in a loss that paired each element with every other one: shapes ``(N, 1)`` and ``(N,)``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from gradscope.analysis.facts.losses.pairs_meant import (
    base_of,
    column_and_row,
    is_paired_on_purpose,
    made_at,
    paired_with_themselves,
    square_layouts,
    value_and_parameter,
)
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.shapes import shape_of
from gradscope.analysis.index import Index
from gradscope.recording import NONE

_ELEMENTWISE = frozenset(("sub", "rsub", "__rsub__", "mul", "div", "__rtruediv__", "add", "true_divide"))
_LOSSES = frozenset(("F.mse_loss", "F.l1_loss", "F.smooth_l1_loss", "F.huber_loss"))
_REDUCES = frozenset(
    ("mean", "sum", "nanmean", "nansum", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "norm")
)
_ONE_BY_ONE = frozenset(
    """
    pow __pow__ square abs neg exp log log1p sqrt clamp clamp_min clamp_max relu tanh sigmoid softplus mul div add sub
    rsub __rsub__ logsigmoid minimum maximum min max where lt gt le ge masked_fill float __get__ mse_loss l1_loss
    smooth_l1_loss huber_loss elu detach clone to contiguous nan_to_num expm1 log_cosh hardtanh log2 log10 sign
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
_DENSITY = re.compile(r"^distributions\.\w+\.log_prob$")
_OF_ROWS = frozenset(("sum", "mean"))
_POWERS = frozenset(("pow", "__pow__"))
_NEGATIVE_POWER = re.compile(r"\*\*\s*\(?\s*-|\bpow\((?:.*,\s*)?(?:exponent\s*=\s*)?-")
_EVEN = frozenset((*_POWERS, "square", "abs", *(one.removeprefix("F.") for one in _LOSSES)))
"""Functions of a difference by which it becomes a distance."""
_FOLLOWED = 32
"""Calls between the one that pairs and the one that reduces."""


class OuterBroadcast(NamedTuple):
    """One call that gave ``N * N`` elements for two times ``N``."""

    op: int
    column: int
    """The tensor of shape ``(N, 1)``."""
    row: int
    """The tensor of shape ``(N,)``."""
    size: int
    """``N``."""
    reduced: int
    """The op that made one number of it: the call itself, where that is a loss."""
    shaped: int
    """The op that gave the column its shape, or NONE."""


def outer_broadcasts(index: Index, passes: Passes) -> Iterator[OuterBroadcast]:
    """The last one of each statement whose result went into what a backward pass started from."""
    recording, nodes = index.recording, index.recording.tensors.column("node")
    found: dict[int, OuterBroadcast] = {}
    squares = square_layouts(index)
    layouts = recording.tensors.column("layout")
    with_themselves: frozenset[int] | None = None
    for op in index.calls_of(_may_broadcast if squares else _LOSSES.__contains__):
        is_density = bool(_DENSITY.search(index.func(op)))
        made = index.tensors_made(op)[-1:] if is_density else index.tensors_made(op)
        is_loss = index.func(op) in _LOSSES
        if len(made) != 1 or nodes[made[0]] < 0 or not (is_loss or layouts[made[0]] in squares):
            continue
        pair = value_and_parameter(index, op, shape_of(index, made[0])) if is_density else column_and_row(index, op)
        if pair is None or passes.first_walked_at[nodes[made[0]]] < 0:
            continue
        column, row, size = pair
        if is_paired_on_purpose(index, op, column, row):
            continue
        if with_themselves is None:
            with_themselves = paired_with_themselves(index, index.calls_of(_may_pair))
        if not is_loss and not with_themselves.isdisjoint((base_of(index, column), base_of(index, row))):
            continue
        number = is_loss and not shape_of(index, made[0])
        reduced = op if number else _reduced_at(index, made[0], column, is_density)
        if reduced >= 0:
            found[index.op_statement[op]] = OuterBroadcast(op, column, row, size, reduced, made_at(index, column))
    yield from found.values()


def _may_broadcast(name: str) -> bool:
    return name in _LOSSES or _may_pair(name) or _DENSITY.search(name) is not None


def _may_pair(name: str) -> bool:
    return name.startswith(("Tensor.", "torch.")) and name.rpartition(".")[2] in _ELEMENTWISE


def _is_of_column(index: Index, tensor: int, column: int) -> bool:
    """Whether a call gave a tensor that paired each element of a column with each of a row."""
    op = made_at(index, tensor)
    pair = column_and_row(index, op) if op >= 0 else None
    return pair is not None and pair[0] == column


def _is_times_itself(index: Index, op: int, own: set[int]) -> bool:
    """Whether a call multiplied pairs by pairs: both are tensors, and both of the same pairs."""
    taken = list(index.uses.of(op))
    return len(taken) == 2 and own.issuperset(taken)


def _reduced_at(index: Index, tensor: int, column: int, is_density: bool) -> int:
    """The call that made one number of all pairs; NONE where any call used them as pairs, or none made one.

    An exponential or an inverse of their distances is such a use: a kernel (``(-(x - y) ** 2).exp()``) is there for all
    pairs. That of the differences themselves is none: it is a ratio of two probabilities.
    Of a logarithm of densities the sum along one dimension is meant to be the one of each row.
    A second tensor of pairs that the same column gave by the same slip (``min(ratio * adv, clipped * adv)``) is no such
    use.
    """
    shape, own, reduced = shape_of(index, tensor), {tensor}, NONE
    distances: set[int] = set()
    todo = list(index.users.of(tensor))
    heapify(todo)
    while todo and len(own) < _FOLLOWED:
        op = heappop(
            todo
        )  # in the order of the run: what else a call takes has been met by then, if it is of the pairs
        made = index.tensors_made(op)
        name = index.func(op).rpartition(".")[2]
        if len(made) != 1 or made[0] in own:
            continue
        is_of_rows = is_density and name in _OF_ROWS and shape_of(index, made[0]) == shape[:1]
        if (is_of_rows or not shape_of(index, made[0])) and name in _REDUCES:
            reduced = op
            continue
        others = [one for one in index.uses.of(op) if one not in own and not _is_of_column(index, one, column)]
        is_by_pairs = any(shape_of(index, one) == shape and base_of(index, one) not in own for one in others)
        if name not in _ONE_BY_ONE or shape_of(index, made[0]) != shape or is_by_pairs:
            return NONE
        taken = set(index.uses.of(op))
        if not taken.isdisjoint(distances):
            if name == "exp" or (name in _POWERS and _NEGATIVE_POWER.search(index.span_source(op))):
                return NONE
            distances.add(made[0])
        elif name in _EVEN or (name == "mul" and _is_times_itself(index, op, own)):
            distances.add(made[0])
        own.add(made[0])
        for user in index.users.of(made[0]):
            heappush(todo, user)
    return reduced
