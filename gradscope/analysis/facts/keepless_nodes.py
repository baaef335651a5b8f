"""Nodes of torch's that keep no tensor for backward: the shapes they need are no tensors."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"Backward\d+(_copy)?$")

KEEPLESS = frozenset(
    """
    Add Sub Rsub Neg Sum Mean Cumsum Trace Clone ToCopy Alias Cat Stack Chunk Split SplitWithSizes UnsafeSplit Unbind
    View UnsafeView ReshapeAlias ReshapeCopy Transpose T Permute Expand Repeat Squeeze Unsqueeze Select Slice Diagonal
    AsStrided Unfold Narrow Flip Roll Triu Tril ConstantPadNd DiagEmbed PixelShuffle PixelUnshuffle Round Floor Ceil
    Sign Trunc Frac ViewAsReal ViewAsComplex Conj Fill Zero UpsampleNearest2D UpsampleBilinear2D
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)


def keeps_nothing(node: str) -> bool:
    """Whether a node is known, by its name (``AddBackward0``), to be of a type that keeps no tensor."""
    return _NUMBER.sub("", node) in KEEPLESS
