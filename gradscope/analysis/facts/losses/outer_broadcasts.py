"""Element-wise calls in a loss that paired each element with every other one: shapes ``(N, 1)`` and ``(N,)``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE

_ELEMENTWISE = frozenset(("sub", "rsub", "__rsub__", "mul", "div", "__rtruediv__", "add", "true_divide"))
_LOSSES = frozenset(("F.mse_loss", "F.l1_loss", "F.smooth_l1_loss", "F.huber_loss"))
_MEANT_FOR_PAIRS = frozenset(
    """
    unsqueeze view reshape t transpose T mT permute expand unflatten movedim swapaxes meshgrid view_as reshape_as
    expand_as
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Functions by which somebody makes a column of a row."""

_SAME_VALUES = _MEANT_FOR_PAIRS | frozenset(("squeeze", "flatten", "ravel", "detach", "data", "clone", "__getitem__"))
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
_NUMBER = re.compile(r"\d+")
_FOLLOWED = 32
"""Calls between the one that pairs and the one that reduces."""
_STEPS = 8
"""Calls back to where a shape came from."""


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
    squares = _square_layouts(index)
    layouts = recording.tensors.column("layout")
    for op in index.calls_of(_may_broadcast if squares else _LOSSES.__contains__):
        made = index.tensors_made(op)
        is_loss = index.func(op) in _LOSSES
        if len(made) != 1 or nodes[made[0]] < 0 or not (is_loss or layouts[made[0]] in squares):
            continue
        pair = _column_and_row(index, op)
        if pair is None or passes.first_walked_at[nodes[made[0]]] < 0:
            continue
        column, row, size = pair
        if _is_meant(index, op, column, row):
            continue
        number = is_loss and not _shape(index, made[0])
        reduced = op if number else _reduced_at(index, made[0], column)
        if reduced >= 0:
            found[index.op_statement[op]] = OuterBroadcast(op, column, row, size, reduced, _made(index, column))
    yield from found.values()


def _may_broadcast(name: str) -> bool:
    return name in _LOSSES or (name.startswith(("Tensor.", "torch.")) and name.rpartition(".")[2] in _ELEMENTWISE)


def _square_layouts(index: Index) -> frozenset[int]:
    found = []
    for number, layout in enumerate(index.recording.layouts):
        shape = _numbers(index.recording.text(layout.shape))
        if len(shape) == 2 and shape[0] == shape[1] and shape[0] != 1:
            found.append(number)
    return frozenset(found)


def _shape(index: Index, tensor: int) -> tuple[int, ...]:
    layout = index.recording.layouts[index.recording.tensors.column("layout")[tensor]]
    return _numbers(index.recording.text(layout.shape))


def _numbers(shape: str) -> tuple[int, ...]:
    """A shape as it is written: ``(3, 1)``."""
    return tuple(map(int, _NUMBER.findall(shape)))


def _column_and_row(index: Index, op: int) -> tuple[int, int, int] | None:
    """The two tensors that a call took, and how many elements each has; None where their shapes are others."""
    taken = list(index.uses.of(op))
    if len(taken) != 2:
        return None
    first, second = taken
    for column, row in ((first, second), (second, first)):
        tall, flat = _shape(index, column), _shape(index, row)
        if len(flat) == 1 and flat > (1,) and tall == (*flat, 1):
            return column, row, flat[0]
    return None


def _is_meant(index: Index, op: int, column: int, row: int) -> bool:
    """Whether somebody wrote it so that each is paired with every other one.

    The column was made one on purpose, the two are the same values, or one is a parameter of its own.
    """
    if any(index.is_leaf_with_grad(one, op) for one in (column, row)):
        return True
    source = index.span_source(op)
    if "None" in source or "newaxis" in source or "unsqueeze" in source:
        return True
    made = _made(index, column)
    if made < 0:
        return False
    source, name = index.span_source(made), index.func(made).removesuffix(".__get__").rpartition(".")[2]
    if name in _MEANT_FOR_PAIRS or "keepdim" in source or (name == "__getitem__" and "None" in source):
        return True
    return _base(index, column) == _base(index, row)


def _made(index: Index, tensor: int) -> int:
    op = index.made_by(tensor)
    return op if 0 <= op < index.op_count else NONE


def _base(index: Index, tensor: int) -> int:
    """The tensor whose values another one shows in another shape."""
    for _ in range(_STEPS):
        op = _made(index, tensor)
        name = index.func(op).removesuffix(".__get__").rpartition(".")[2]
        taken = list(index.uses.of(op)) if op >= 0 else []
        if name not in _SAME_VALUES or not taken:
            break
        tensor = taken[0]
    return tensor


def _is_of_column(index: Index, tensor: int, column: int) -> bool:
    """Whether a call gave a tensor that paired each element of a column with each of a row."""
    op = _made(index, tensor)
    pair = _column_and_row(index, op) if op >= 0 else None
    return pair is not None and pair[0] == column


def _reduced_at(index: Index, tensor: int, column: int) -> int:
    """The call that made one number of all pairs; NONE where any call used them as pairs, or none made one.

    A second tensor of pairs that the same column gave by the same slip (``min(ratio * adv, clipped * adv)``) is no such
    use.
    """
    shape, own, reduced = _shape(index, tensor), {tensor}, NONE
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
        if not _shape(index, made[0]) and name in _REDUCES:
            reduced = op
            continue
        others = [one for one in index.uses.of(op) if one not in own and not _is_of_column(index, one, column)]
        is_by_pairs = any(_shape(index, one) == shape and _base(index, one) not in own for one in others)
        if name not in _ONE_BY_ONE or _shape(index, made[0]) != shape or is_by_pairs:
            return NONE
        own.add(made[0])
        for user in index.users.of(made[0]):
            heappush(todo, user)
    return reduced
