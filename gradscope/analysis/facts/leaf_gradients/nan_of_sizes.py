"""Calls whose result is NaN for the size of what they take: a mean of no elements, a deviation of one value."""

from __future__ import annotations

import math
from typing import NamedTuple

from gradscope.analysis.facts.shapes import shape_of
from gradscope.analysis.index import NOWHERE, Index

_STEPS = 4
"""Calls from one that gave NaN back to the one that it came from: ``cls + (box - target).abs().mean()``."""
_MEANS = frozenset({"Tensor.mean", "torch.mean"})
_DEVIATIONS = frozenset({"Tensor.std", "torch.std", "Tensor.var", "torch.var"})
_OF_ALL = ("unbiased=False", "correction=0", "False)")
"""How a call says that it divides by n and not by n - 1."""


class NanOfSize(NamedTuple):
    """A call, and what it was given."""

    op: int
    is_empty: bool
    """It was given no elements; else one value."""


def nan_of_size(index: Index, op: int) -> NanOfSize | None:
    """The call at or shortly behind one that gave NaN, which gives NaN by itself; None where none is known."""
    todo, seen = [(op, 0)], {op}
    while todo:
        one, steps = todo.pop(0)
        if (found := gives_nan(index, one)) is not None and index.op_statement[one] != NOWHERE:
            return found
        for made in map(index.made_by, index.uses.of(one) if steps < _STEPS else ()):
            if 0 <= made < index.op_count and made not in seen:
                seen.add(made)
                todo.append((made, steps + 1))
    return None


def gives_nan(index: Index, op: int) -> NanOfSize | None:
    """Whether a call gives NaN whatever the values are that it takes.

    torch.mean of no elements divides 0 by 0; torch.std and torch.var divide by n - 1 unless they are told otherwise.
    """
    func, taken = index.func(op), index.uses.of(op)
    if not taken or (func not in _MEANS and func not in _DEVIATIONS):
        return None
    size = math.prod(shape_of(index, taken[0]))
    if func in _MEANS:
        return NanOfSize(op, is_empty=True) if not size else None
    is_of_all = any(words in index.span_source(op, exact=True) for words in _OF_ALL)
    return NanOfSize(op, is_empty=False) if size == 1 and not is_of_all else None
