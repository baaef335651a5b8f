"""Optimizers whose ``eps`` is zero in the precision of the parameters that they step."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.optimizers import Optimizer
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import Field

_SMALLEST = {"float16": 2.0**-25}
"""Up to what a positive number is rounded to zero. (In bfloat16 that is far below any ``eps``.)"""


class VanishedEps(NamedTuple):
    """An ``eps`` that is zero where it is added."""

    optimizer: Optimizer
    eps: float
    dtype: str
    made_so: int
    """The op that put the parameter into that precision; NONE where it was made so."""


def vanished_eps(index: Index, optimizers: list[Optimizer], tensor: int, op: int) -> VanishedEps | None:
    """That of the optimizer of a parameter, by the precision that the parameter had when an op was called."""
    dtype = dtype_of(index, index.layout_at(tensor, op))
    for optimizer in optimizers:
        eps = optimizer.setting(tensor, "eps") if tensor in optimizer.tensors else 0.0
        if 0 < eps <= _SMALLEST.get(dtype, 0.0):
            return VanishedEps(optimizer, eps, dtype, made_so(index, tensor, dtype, op))
    return None


def in_half_precision(index: Index, tensor: int, op: int) -> int | None:
    """The op that put a tensor into float16, or that made it so, or NONE; None where it is in another precision."""
    dtype = dtype_of(index, index.layout_at(tensor, op))
    if dtype not in _SMALLEST:
        return None
    changed = made_so(index, tensor, dtype, op)
    return changed if changed >= 0 else index.made_by(tensor)


def made_so(index: Index, tensor: int, dtype: str, before: int) -> int:
    """The last op before another that put a tensor into a precision; NONE where none did."""
    changes = index.recording.changes
    columns = (changes.column(name) for name in ("op", "tensor", "field", "after"))
    ops = [
        op
        for op, changed, field, after in zip(*columns, strict=True)
        if changed == tensor and field == Field.LAYOUT and op < before and dtype_of(index, after) == dtype
    ]
    return ops[-1] if ops else NONE


def dtype_of(index: Index, layout: int) -> str:
    """The precision that a layout has: ``float16``."""
    return index.recording.text(index.recording.layouts[layout].dtype)
