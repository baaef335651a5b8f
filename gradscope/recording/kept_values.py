"""Tensors as they were at one moment of a run: what two runs are compared by. Inert; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class KeptValue(NamedTuple):
    """A tensor as it was at one moment."""

    digest: str
    """Equal for tensors of the same type and shape whose elements are the same to the bit."""
    dtype: str
    shape: tuple[int, ...]
    norm: float
    """The 2-norm, in double precision."""
    offset: int
    """Where its elements begin in the file that the run has left; -1 where there was no room for them."""
    nbytes: int


class Difference(NamedTuple):
    """How far a tensor is off from another."""

    is_same: bool
    """To the bit."""
    largest: float | None
    """The largest absolute difference of two elements; None where they are not known, or of other shapes."""
    relative: float | None
    """The largest difference, over the largest absolute element of the other; None where that is not known, or 0."""


class SeenPass(NamedTuple):
    """One backward pass."""

    losses: tuple[float, ...]
    """What it started from, of one element each."""
    gradients: Mapping[int, KeptValue]
    """``.grad`` after it, by the row of the leaf; only where it was looked at."""
    is_looked_at: bool


class SeenLeaf(NamedTuple):
    """A leaf at the end of a run."""

    value: KeptValue | None
    """None for one whose elements cannot be read as they are (sparse, nested, meta)."""
    gradient: KeptValue | None
    """None where it has none then, or none that can be read."""
