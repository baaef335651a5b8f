"""Whole numbers that were saved for backward while a pack function was in force that casts all it is given to half."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.shapes import shape_of
from gradscope.analysis.index import Index
from gradscope.frames.called_by_torch.hooks_that_cast import PackCast, pack_cast
from gradscope.recording.rows import OpFlag

_COUNTED = {"EmbeddingBackward0": 0, "NllLossBackward0": 1}
"""Nodes that find rows by whole numbers which they save, and along which dimension of what they are given."""


class RoundedIndices(NamedTuple):
    """The first node that a pass walked."""

    cast: PackCast
    file: int
    node: int
    kind: str
    op: int
    tensor: int
    """The whole numbers."""
    rows: int
    """How many rows, or classes."""


def rounded_indices(index: Index, passes: Passes) -> RoundedIndices | None:
    """None where no text casts so, or nothing has more rows than are kept apart."""
    recording = index.recording
    casts = [
        (number, found)
        for number, file in enumerate(recording.files)
        if file.is_user and (found := pack_cast(file.text)) is not None
    ]
    if len(casts) != 1:
        return None
    ((file, cast),) = casts
    names, ops, flags = recording.nodes.column("name"), recording.nodes.column("op"), recording.ops.column("flags")
    for node, name in enumerate(names):
        op, kind = ops[node], recording.text(name)
        if kind not in _COUNTED or passes.first_walked_at[node] < 0 or not 0 <= op < index.op_count:
            continue
        if not flags[op] & OpFlag.HOOKED:
            continue
        whole = [one for one in index.uses.of(op) if _dtype(index, one, op).startswith("int")]
        shapes = [shape_of(index, one) for one in index.uses.of(op) if _dtype(index, one, op).startswith("float")]
        along = _COUNTED[kind]
        counts = [shape[along] for shape in shapes if len(shape) == 2]
        if whole and counts and counts[0] > cast.exact:
            return RoundedIndices(cast, file, node, kind, op, whole[0], counts[0])
    return None


def _dtype(index: Index, tensor: int, op: int) -> str:
    return index.recording.text(index.recording.layouts[index.layout_at(tensor, op)].dtype)
