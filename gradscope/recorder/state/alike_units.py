"""Whether all units of a layer have equal weights and equal gradients: asked on the CPU, where it costs no waiting."""

from __future__ import annotations

from torch import Tensor

from gradscope.recorder.state.value_ranges import numbers_of

_NEARLY = 1e-5
"""The part of the largest value by which equal units may differ: a product sums their terms in another order."""
_LARGEST = 1 << 22
"""Elements of the largest gradient that is looked at."""


def alike_along(gradient: object, leaf: object) -> list[int]:
    """The dimensions, 0 or 1, along which a gradient that is not zero and its leaf have the same values throughout."""
    given, held = numbers_of(gradient), numbers_of(leaf)
    if given is None or held is None or not given.is_cpu or given.dim() < 2 or given.numel() > _LARGEST:
        return []
    if given.shape != held.shape or given.is_sparse:
        return []
    return [dim for dim in (0, 1) if given.size(dim) > 1 and _is_alike(given, dim) and _is_alike(held, dim)]


def _is_alike(values: Tensor, dim: int) -> bool:
    first, second = values.select(dim, 0), values.select(dim, 1)
    scale = float(first.abs().max()) if first.numel() else 0.0
    if not scale or float((first - second).abs().max()) > _NEARLY * scale:
        return False
    return bool(((values - values.narrow(dim, 0, 1)).abs() <= _NEARLY * scale).all())
