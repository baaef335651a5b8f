"""Masks of attention that leave the padding alone to attend to, or leave nothing out.

``scaled_dot_product_attention`` attends where a mask of truth values is True; ``MultiheadAttention``, and
``masked_fill(mask, -inf)`` before a softmax, leave out where it is. Masks of numbers are added to the scores. What a
mask is for is told by the comparison that it comes from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.graphs.mask_origins import LEAST, MaskOrigins, Origin
from gradscope.analysis.index import Index

_FILLS = frozenset(("Tensor.masked_fill", "Tensor.masked_fill_"))
_SUMS = frozenset(("Tensor.add", "Tensor.add_", "Tensor.__iadd__"))
_PRODUCTS = frozenset(("Tensor.mul", "Tensor.mul_", "Tensor.__imul__"))
_MODULES = "F.multi_head_attention_forward"
_FUSED = "F.scaled_dot_product_attention"
_INPUTS = 3
"""Query, key and value: what attention is given first."""


class ReversedMask(NamedTuple):
    """One attention, in its last call."""

    op: int
    """The call that takes the mask."""
    attends: bool
    """It attends where the mask is True; else it leaves that out."""
    compared: int
    """The comparison that the mask comes from, with padding or with lengths."""
    is_added: bool
    """The mask is numbers, the least where something is left out."""


class UselessMask(NamedTuple):
    """One attention, in its last call, whose scores a mask of zeros and ones changes as numbers."""

    op: int
    """The call that adds the mask to the scores, or multiplies them."""
    is_factor: bool
    """It multiplies."""
    origin: Origin


def reversed_masks(index: Index) -> Iterator[ReversedMask]:
    """One of each line that is given such a mask."""
    found: dict[tuple[int, int], ReversedMask] = {}
    origins = MaskOrigins(index)
    for op, mask, attends in _truth_values(index):
        for one in origins.of(mask, attends):
            if one.attends_to_padding:
                found[index.op_statement[op], index.op_statement[one.op]] = ReversedMask(op, attends, one.op, False)
    for op, mask, is_factor in _numbers(index):
        for one in () if is_factor else origins.of(mask, True, is_added=True):
            if one.attends_to_padding and not one.leaves_nothing_out:
                found[index.op_statement[op], index.op_statement[one.op]] = ReversedMask(op, True, one.op, True)
    yield from found.values()


def useless_masks(index: Index) -> Iterator[UselessMask]:
    """One of each line that takes such a mask as numbers."""
    found: dict[tuple[int, int], UselessMask] = {}
    origins = MaskOrigins(index)
    for op, mask, is_factor in _numbers(index):
        for one in origins.of(mask, True, is_added=True):
            if one.leaves_nothing_out:
                found[index.op_statement[op], index.op_statement[one.op]] = UselessMask(op, is_factor, one)
    yield from found.values()


def _truth_values(index: Index) -> Iterator[tuple[int, int, bool]]:
    """Calls that take masks of truth values for scores of attention; with each the mask, and whether True attends."""
    for op in index.calls_of(_FUSED.__eq__):
        masks = [one for one in list(index.uses.of(op))[_INPUTS:] if index.is_bool(one)]
        yield from ((op, one, True) for one in masks if _is_along_items(index, one))
    for op in index.calls_of(_MODULES.__eq__):
        yield from ((op, one, False) for one in index.uses.of(op) if index.is_bool(one))
    for op in index.calls_of_methods(*_FILLS):
        taken = list(index.uses.of(op))
        if len(taken) != 2 or not index.is_bool(taken[1]):
            continue
        users = _users(index, op)
        is_filled = LEAST.search(index.span_source(op)) and any("softmax" in index.func(user) for user in users)
        base = index.made_by(taken[0])
        is_torchs = 0 <= base < index.op_count and index.func(base) == "torch.zeros_like"
        is_torchs = is_torchs and list(index.uses.of(base)) == [taken[1]]  # (what a module makes of the mask)
        if is_filled or (is_torchs and any(index.func(one) == _MODULES for one in users)):
            yield op, taken[1], False


def _numbers(index: Index) -> Iterator[tuple[int, int, bool]]:
    """Calls that take numbers for scores of attention that may be a mask; with each these, and whether as a factor."""
    for op in index.calls_of(lambda func: func in (_FUSED, _MODULES)):
        yield from ((op, one, False) for one in list(index.uses.of(op))[_INPUTS:] if not index.is_bool(one))
    for op in index.calls_of_methods(*_SUMS, *_PRODUCTS):
        taken, users = list(index.uses.of(op)), _users(index, op)
        # (where anything else comes before the softmax, that may leave out what the mask did not)
        if len(taken) == 2 and users and all(index.func(user).rpartition(".")[2] == "softmax" for user in users):
            masks = [one for one in taken if not index.is_bool(one) and _is_along_items(index, one)]
            yield from ((op, one, index.method(op) in _PRODUCTS) for one in masks)


def _is_along_items(index: Index, mask: int) -> bool:
    """Whether a mask differs along the last dimension: one for whole rows is no matter of what these attend to."""
    layout = index.recording.layouts[index.recording.tensors.column("layout")[mask]]
    return not index.recording.text(layout.shape).rstrip(",)").endswith((" 1", "(1"))


def _users(index: Index, op: int) -> list[int]:
    """The calls after one that take what it gave."""
    results = [*index.tensors_made(op), *index.results.of(op)]
    return [user for one in results for user in index.users.of(one) if user > op]
