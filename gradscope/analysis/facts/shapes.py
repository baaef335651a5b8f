"""Shapes as numbers."""

from __future__ import annotations

import re

from gradscope.analysis.index import Index

_NUMBER = re.compile(r"\d+")


def shape_of(index: Index, tensor: int) -> tuple[int, ...]:
    """The shape that a tensor was made with."""
    layout = index.recording.layouts[index.recording.tensors.column("layout")[tensor]]
    return numbers_in(index.recording.text(layout.shape))


def numbers_in(shape: str) -> tuple[int, ...]:
    """A shape as it is written: ``(3, 1)``."""
    return tuple(map(int, _NUMBER.findall(shape)))
