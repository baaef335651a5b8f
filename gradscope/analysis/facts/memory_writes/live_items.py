"""Tensors that a dict keeps itself beside copies of others, that were written in place, and were put back from there.

No call of torch takes them: it is by their names that they were seen in the dict, and where they are put back.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.index import Index
from gradscope.frames.names.items_beside_copies import ItemBesideCopies, items_beside_copies, lines_that_put_back


class LiveItem(NamedTuple):
    """One item."""

    file: int
    item: ItemBesideCopies
    tensor: int
    written: int
    """The last op that wrote it in place between the two."""
    times: int
    """How many did."""
    put_back: int
    """The line that put it back, of the same file."""


def live_items(index: Index, names_held: dict[int, list[tuple[int, int, int]]]) -> Iterator[LiveItem]:
    """One for each item of a text; the first tensor that shows it.

    Args:
        index: The recording.
        names_held: For each tensor the names under which it was seen, with op and span.
    """
    writes: dict[int, list[int]] | None = None
    for file, source in enumerate(index.recording.files):
        for item in items_beside_copies(source.text) if source.is_user else ():
            back = lines_that_put_back(source.text, item)
            if not back:
                continue
            writes = _writes(index) if writes is None else writes
            copies = _ops_in(index, file, item)
            ways = (
                found
                for tensor, ops in writes.items()
                if (found := _of(index, file, item, back, tensor, ops, copies, names_held.get(tensor, []))) is not None
            )
            first = next(ways, None)
            if first is not None:
                yield first


def _writes(index: Index) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for op, tensor, _, _ in writes_by_program(index):
        found.setdefault(tensor, []).append(op)
    return found


def _of(
    index: Index,
    file: int,
    item: ItemBesideCopies,
    back: list[range],
    tensor: int,
    writes: list[int],
    copies: list[int],
    held: list[tuple[int, int, int]],
) -> LiveItem | None:
    text, spans = index.recording.text, index.recording.spans
    names = {text(name) for name, _, _ in held}
    if not any(name == item.attribute or name.endswith(f".{item.attribute}") for name in names):
        return None
    for name, op, span in held:
        if span < 0 or not text(name).endswith(f"[{item.key!r}]") or spans[span].file != file:
            continue
        line, position = spans[span].line, bisect_left(copies, op)
        is_back = position > 0 and any(line in lines for lines in back)
        between = writes[bisect_left(writes, copies[position - 1]) : bisect_left(writes, op)] if is_back else []
        if between:
            return LiveItem(file, item, tensor, between[-1], index.times(between), line)
    return None


def _ops_in(index: Index, file: int, item: ItemBesideCopies) -> list[int]:
    """The calls that made the copies beside an item, in order."""
    spans = {
        row
        for row, span in enumerate(index.recording.spans)
        if span.file == file and any(span.line in lines for lines in item.copied)
    }
    return [op for op, span in enumerate(index.recording.ops.column("span")) if span in spans]
