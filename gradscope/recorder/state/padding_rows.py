"""How often embeddings were asked for their padding row, and where: padding stands at the ends of sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

_KIND = "EmbeddingBackward0"
_INDICES = 1 << 16
"""Indices of the largest look-up that is asked."""


class PaddingRow(NamedTuple):
    """One look-up, as the node that it made keeps it."""

    node: int
    times: int
    """Indices that are the padding index."""
    indices: int
    kinds: int
    """Different indices."""
    inside: int
    """Of the ``times``, those between others along every dimension of the indices."""


def padding_rows(
    nodes: list[Any], row_of: Callable[[Any], int], kept_of: Callable[[Any], list[tuple[str, Tensor]] | None]
) -> list[PaddingRow]:
    """What nodes of look-ups with a padding index were asked for. On the CPU alone, where no device is waited for.

    Args:
        nodes: Any nodes.
        row_of: Gives the row of a node, or NONE.
        kept_of: Gives what a node keeps, or None.
    """
    found: list[PaddingRow] = []
    for node in nodes:
        padding = node._saved_padding_idx
        row = row_of(node) if type(padding) is int and 0 <= padding < 1 << 31 else -1
        indices = dict(kept_of(node) or ()).get("indices") if row >= 0 else None
        if indices is None or not indices.is_cpu or indices.numel() > _INDICES:
            continue
        is_padding = indices == padding
        times = int(is_padding.sum())
        if times:
            kinds = len(set(indices.flatten().tolist()))
            found.append(PaddingRow(row, times, indices.numel(), kinds, _inside(is_padding)))
    return found


def is_look_up(node: Any) -> bool:
    """Whether a node is that of a look-up in an embedding."""
    return type(node).__name__ == _KIND


def _inside(is_padding: Tensor) -> int:
    """How many of them have others before and behind them along every dimension that is longer than one."""
    inside = is_padding
    for dim in range(is_padding.dim()):
        if is_padding.shape[dim] > 1:
            others = (~is_padding).to(torch.uint8)
            before, behind = others.cummax(dim).values, others.flip(dim).cummax(dim).values.flip(dim)
            inside = inside & before.bool() & behind.bool()
    return int(inside.sum())
