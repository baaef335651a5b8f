"""Line by line: what each statement did, in files whose lines are aligned by their content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from gradscope.analysis.comparison.comparison_model import Cell, Row
from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import LineRow
from gradscope.analysis.sizes import size
from gradscope.recording import Recording

_ALIKE = 0.6
"""Likeness from which on a changed line counts as the same statement, written differently."""


@dataclass(frozen=True, slots=True)
class AlignedLine:
    """One statement of one recording."""

    number: int
    source: str
    did: str
    """What it did, in words; two lines that did the same have the same words."""


def aligned_lines(recordings: Sequence[Recording]) -> list[Row]:
    """One row a statement, in the order of the first recording; what only the others have stands where it belongs."""
    merged = merge_lines([_lines(recording) for recording in recordings])
    return [_row(places, len(recordings)) for places in merged]


def merge_lines(columns: Sequence[Sequence[AlignedLine]]) -> list[dict[int, AlignedLine]]:
    """The lines of all columns side by side: for each row, the line of each column (by position) that has one."""
    merged: list[dict[int, AlignedLine]] = [{0: line} for line in columns[0]]
    for at, lines in enumerate(columns[1:], 1):
        merged = _merge(merged, lines, at)
    return merged


def _lines(recording: Recording) -> list[AlignedLine]:
    """Every statement of the target's own file that did something, in the order of the source."""
    rows: dict[tuple[str, int], list[LineRow]] = {}
    for row in build(recording).lines:
        rows.setdefault((row.file, row.line), []).append(row)
    return [AlignedLine(line, rows[0].source, "; ".join(map(_did, rows))) for (_, line), rows in sorted(rows.items())]


def _did(row: LineRow) -> str:
    """What one row of the line table says, without what depends on where it stands."""
    if row.kind == "error":
        return f"raised {row.notes[0] if row.notes else row.op}"
    if row.requires_grad is None:
        return row.kind
    facts = [
        f"{row.name}:",
        "cut," if row.kind == "cut" else "",
        (row.grad_fn or ("leaf that requires grad" if row.requires_grad else "no grad")) + ",",
        f"on {row.alias_of}'s memory," if row.alias_of else "",
        f"version {row.version_before} to {row.version}," if row.version_before not in (None, row.version) else "",
        f"saves {size(row.saved_bytes)}," if row.saved_bytes else "",
        f"new {size(row.allocated_bytes)}," if row.allocated_bytes else "",
        f"{row.executions} times," if row.executions > 1 else "",
        ", ".join(row.modes),
    ]
    return " ".join(fact for fact in facts if fact).rstrip(",")


def _merge(merged: list[dict[int, AlignedLine]], lines: Sequence[AlignedLine], at: int) -> list[dict[int, AlignedLine]]:
    """Put another recording's lines beside those that are there."""
    known = [next(iter(places.values())).source for places in merged]
    matcher = SequenceMatcher(None, known, [line.source for line in lines], autojunk=False)
    result: list[dict[int, AlignedLine]] = []
    for tag, first, end, other, other_end in matcher.get_opcodes():
        old, new = merged[first:end], lines[other:other_end]
        if tag == "equal":
            result += [{**places, at: line} for places, line in zip(old, new, strict=True)]
        else:
            result += _pair(old, new, at)
    return result


def _pair(old: list[dict[int, AlignedLine]], new: Sequence[AlignedLine], at: int) -> Iterator[dict[int, AlignedLine]]:
    """Changed lines: each new one beside the next old one that is like it."""
    waiting = list(old)
    for line in new:
        like = next((number for number, places in enumerate(waiting) if _is_like(places, line)), None)
        if like is None:
            yield {at: line}
        else:
            yield from waiting[:like]
            yield {**waiting[like], at: line}
            del waiting[: like + 1]
    yield from waiting


def _is_like(places: dict[int, AlignedLine], line: AlignedLine) -> bool:
    other = next(iter(places.values())).source
    return SequenceMatcher(None, other, line.source, autojunk=False).ratio() >= _ALIKE


def _row(places: dict[int, AlignedLine], count: int) -> Row:
    cells = [
        Cell(_told(places[at], places), "value", False) if at in places else Cell(None, "missing", False)
        for at in range(count)
    ]
    first = next(iter(places.values()))
    source = " ".join(first.source.split())
    differs = len({places[at].did if at in places else None for at in range(count)}) > 1
    return Row("line", str(first.number), (), f"{first.number} {source}", "", tuple(cells), differs)


def _told(line: AlignedLine, places: dict[int, AlignedLine]) -> str:
    """What a line did; with its source where that is another than the label says."""
    first = next(iter(places.values()))
    return line.did if line.source == first.source else f"{line.did} [{' '.join(line.source.split())}]"
