"""Items that a ``__getitem__`` of the program's took as views of what it keeps, and that were written in place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.writes import is_step, writes_by_program
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL

_TAKES_ITEM = ".__getitem__"
_SETTLES = frozenset(("Tensor.clamp_", "Tensor.clip_", "Tensor.abs_", "Tensor.nan_to_num_", "Tensor.relu_"))
"""Writes that change nothing the second time."""


class WrittenItem(NamedTuple):
    """What one line did, in its last run."""

    read: int
    """The op that took the item."""
    write: int
    base: int
    """The tensor that it was taken from."""
    times: int
    """How often this line wrote the place that it wrote most, each time through an item that was read anew."""


def written_items(index: Index) -> Iterator[WrittenItem]:
    """One for each line that writes and line that reads, where a place was written through several items."""
    tensors, aliases = index.recording.tensors, index.recording.aliases
    flags, made_at, layouts = (tensors.column(name) for name in ("flags", "op", "layout"))
    taken_from = dict(
        zip(aliases.column("tensor"), zip(aliases.column("base"), aliases.column("offset"), strict=True), strict=True)
    )
    places: dict[tuple[int, int], dict[tuple[int, int, int], set[int]]] = {}
    last: dict[tuple[int, int], tuple[int, int, int]] = {}
    for op, _, _, _ in writes_by_program(index):
        item = next(iter(index.uses.of(op)), NONE)
        base, offset = taken_from.get(item, (NONE, 0))
        if base < 0 or flags[item] & EXTERNAL or is_step(index, op) or index.func(op) in _SETTLES:
            continue
        read, statement = made_at[item], index.op_statement[op]
        is_taken = index.func(read) == "Tensor.__getitem__" and _function(index, read).endswith(_TAKES_ITEM)
        if not is_taken or statement in (NOWHERE, index.op_statement[read]) or not _is_kept(index, base, read):
            continue
        key = (statement, index.op_statement[read])
        places.setdefault(key, {}).setdefault((base, offset, layouts[item]), set()).add(item)
        last[key] = (read, op, base)
    for key, items in places.items():
        times = max(map(len, items.values()))
        if times > 1:
            yield WrittenItem(*last[key], times)


def _is_kept(index: Index, base: int, read: int) -> bool:
    """Whether what an item was taken from was there before the call that took it, as another's."""
    made = index.recording.tensors.column("op")[base]
    return _function(index, made) != _function(index, read)


def _function(index: Index, op: int) -> str:
    """The function of the user's at which an op ran; empty for the op after the last."""
    statement = index.op_statement[op] if op < index.op_count else NOWHERE
    return index.recording.text(index.statements[statement].function) if statement != NOWHERE else ""
