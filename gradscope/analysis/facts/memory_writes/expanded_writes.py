"""Writes to a part of an expanded tensor, of which several parts are the same memory."""

from __future__ import annotations

import re
from typing import NamedTuple

from gradscope.analysis.facts.storage_groups import StorageGroups, numbers_in
from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording.flags import EXTERNAL

_EXPANDS = re.compile(r"(Tensor|torch)\.(expand|expand_as|broadcast_to|broadcast_tensors)")


class ExpandedWrite(NamedTuple):
    """A write to a part of a tensor that was expanded."""

    op: int
    expanded: int
    times: int
    """How many parts of it are the memory of the one that was written."""


def expanded_writes(index: Index, sharing: StorageGroups) -> list[ExpandedWrite]:
    """The last write of each statement to a part of each call's result."""
    made_at, flags = (index.recording.tensors.column(name) for name in ("op", "flags"))
    found: dict[tuple[int, int], ExpandedWrite] = {}
    for op, tensor, _, _ in writes_by_program(index):
        base = tensor if index.func(op) == "Tensor.__setitem__" else sharing.base_of(tensor)
        seen = set[int]()
        while base >= 0 and base not in seen:
            seen.add(base)
            made = made_at[base]
            is_made = made < index.op_count and not flags[base] & EXTERNAL and index.op_statement[made] != NOWHERE
            if is_made and _EXPANDS.fullmatch(index.func(made)):
                times = _copies(index, base) // _copies(index, tensor if tensor != base else -1)
                if times > 1:
                    found[index.op_statement[op], index.op_statement[made]] = ExpandedWrite(op, base, times)
                break
            base = sharing.base_of(base)
    return list(found.values())


def _copies(index: Index, tensor: int) -> int:
    """How many elements of a tensor are the same memory; 1 for no tensor."""
    if tensor < 0:
        return 1
    recording = index.recording
    layout = recording.layouts[recording.tensors.column("layout")[tensor]]
    copies = 1
    for size, step in zip(
        numbers_in(recording.text(layout.shape)), numbers_in(recording.text(layout.stride)), strict=False
    ):
        copies *= size if step == 0 and size > 1 else 1
    return copies
