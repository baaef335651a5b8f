"""Padding masks of attention the wrong way round: what is left to attend to is the padding alone.

``scaled_dot_product_attention`` attends where a mask of truth values is True; ``MultiheadAttention``, and
``masked_fill(mask, -inf)`` before a softmax, leave out where it is. Which of both a mask is for is told by the
comparison that it comes from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.index import Index

_LAID_OUT = frozenset(
    f"Tensor.{name}"
    for name in (
        *("__getitem__", "unsqueeze", "squeeze", "view", "reshape", "expand", "expand_as", "repeat"),
        *("bool", "to", "clone", "contiguous"),
    )
)
_TURNED = frozenset(("Tensor.__invert__", "Tensor.logical_not", "Tensor.bitwise_not"))
_EQUAL = frozenset(("Tensor.__eq__", "Tensor.eq"))
_OTHER = frozenset(("Tensor.__ne__", "Tensor.ne"))
_FILLS = frozenset(("Tensor.masked_fill", "Tensor.masked_fill_"))
_PADDING = re.compile(r"pad|(==|!=)\s*0$|\b(eq|ne)\([^,]*\b0\)$", re.IGNORECASE)
"""A comparison with what stands for padding."""
_FALSE, _TRUE = re.compile(r"==\s*(0|False)$|eq\((0|False)\)$"), re.compile(r"==\s*(1|True)$|eq\((1|True)\)$")
_LEAST = re.compile(
    r"-\s*(float\(.inf.\)|\S*\binf\b|\d+(\.\d*)?e\d+|\d{4,})|float\(.-inf.\)|finfo\(.*\)\.min", re.IGNORECASE
)
"""What is filled in so that nothing comes of it in a softmax."""
_FARTHEST = 12


class ReversedMask(NamedTuple):
    """One attention, in its last call."""

    op: int
    """The call that takes the mask."""
    attends: bool
    """It attends where the mask is True; else it leaves that out."""
    compared: int
    """The comparison that the mask comes from, with padding."""


def reversed_masks(index: Index) -> Iterator[ReversedMask]:
    """One of each line that is given such a mask."""
    found: dict[tuple[int, int], ReversedMask] = {}
    looked_up = _looked_up(index)
    for op, mask, attends in _masks(index) if looked_up else ():
        compared, is_equal = _origin(index, mask, looked_up)
        if compared >= 0 and is_equal == attends:
            found[index.op_statement[op], index.op_statement[compared]] = ReversedMask(op, attends, compared)
    yield from found.values()


def _masks(index: Index) -> Iterator[tuple[int, int, bool]]:
    """Calls that take masks of truth values for scores of attention; with each the mask, and whether True attends."""
    for op in index.calls_of("F.scaled_dot_product_attention".__eq__):
        taken = list(index.uses.of(op))
        if len(taken) == 4 and index.is_bool(taken[3]):
            yield op, taken[3], True
    for op in index.calls_of("F.multi_head_attention_forward".__eq__):
        yield from ((op, one, False) for one in index.uses.of(op) if index.is_bool(one))
    for op in index.calls_of_methods(*_FILLS):
        taken = list(index.uses.of(op))
        if len(taken) != 2 or not index.is_bool(taken[1]):
            continue
        results = [*index.tensors_made(op), *index.results.of(op)]
        users = [user for one in results for user in index.users.of(one) if user > op]
        is_filled = _LEAST.search(index.span_source(op)) and any("softmax" in index.func(user) for user in users)
        base = index.made_by(taken[0])
        is_torchs = 0 <= base < index.op_count and index.func(base) == "torch.zeros_like"
        is_torchs = is_torchs and list(index.uses.of(base)) == [taken[1]]  # (what a module makes of the mask)
        if is_filled or (is_torchs and any(index.func(one) == "F.multi_head_attention_forward" for one in users)):
            yield op, taken[1], False


def _origin(index: Index, mask: int, looked_up: set[int]) -> tuple[int, bool]:
    """The comparison of what is looked up with the padding that a mask comes from, and whether True is where both are
    equal; -1 where it comes from anything else."""
    is_turned, storages = False, index.recording.tensors.column("storage")
    for _ in range(_FARTHEST):
        op = index.made_by(mask)
        taken = list(index.uses.of(op)) if 0 <= op < index.op_count else []
        if len(taken) != 1:
            break
        method, source = index.method(op), index.span_source(op).strip()
        if method in _EQUAL | _OTHER and not index.is_bool(taken[0]):
            is_one = storages[taken[0]] in looked_up and _PADDING.search(source)
            return (op if is_one else -1), (method in _EQUAL) != is_turned
        if method in _TURNED or (method in _EQUAL and _FALSE.search(source)):
            is_turned = not is_turned
        elif method not in _LAID_OUT and not (method in _EQUAL and _TRUE.search(source)):
            break
        mask = taken[0]
    return -1, False


def _looked_up(index: Index) -> set[int]:
    """The memory of what embeddings look up."""
    storages = index.recording.tensors.column("storage")
    taken = (next(iter(index.uses.of(op)), -1) for op in index.calls_of("F.embedding".__eq__))
    return {storages[one] for one in taken if one >= 0 and storages[one] >= 0}
