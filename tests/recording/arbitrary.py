"""Recordings that no program made: any rows whose ids stand for something."""

from typing import Any

from hypothesis import strategies as st

from gradscope.recording import Fault, Outcome, Recording, RunInfo, SourceFile
from gradscope.recording.column_marks import AnyOf, ByKind, OneOf, RowOf, Text
from gradscope.recording.rows import TensorFlag
from gradscope.recording.tables import NONE, Table

texts = st.text(st.characters(), max_size=12)
"""Any characters, lone surrogates and NUL included."""
_BITS = {"b": 7, "B": 8, "H": 16, "i": 31, "q": 63, "Q": 64}


@st.composite
def recordings(draw: st.DrawFn, most_rows: int = 6) -> Recording:
    """Any recording that may be loaded."""
    recording = Recording()
    recording.strings += draw(st.lists(texts, max_size=5, unique=True))
    recording.files += draw(st.lists(st.builds(SourceFile, texts, texts, texts, st.booleans()), min_size=1, max_size=3))
    recording.faults += draw(st.lists(st.builds(Fault, texts, texts, st.integers(1, 2**40)), max_size=2))
    recording.threads += draw(st.lists(texts, max_size=3))
    recording.info = draw(run_infos())
    sizes = {name: draw(st.integers(0, most_rows)) for name in recording.tables} | {"files": len(recording.files)}
    needed = {"ops", "tensors", "nodes", "layouts", "spans", "storages", "events", "modules"}
    sizes |= {name: max(1, sizes[name]) for name in needed}
    for name, table in recording.tables.items():
        for _ in range(sizes[name]):
            row = [
                draw(_column(column, declared.holds, sizes, len(recording.strings)))
                for column, declared in table.declared.items()
            ]
            if name == "edges":  # no node comes before itself
                row = [max(row), min(row)] if row[0] != row[1] else [row[0], NONE]
            if name == "modules":  # none is part of itself
                row[1] = min(row[1], len(table) - 1)
            row = _with_valid_rows(draw, table, row, sizes)
            if name == "tensors" and row[0] == sizes["ops"]:
                row[4] |= TensorFlag.EXTERNAL
            table.append(tuple(row))
    return recording


def run_infos() -> st.SearchStrategy[RunInfo]:
    """Any facts about a run."""
    outcomes = st.builds(
        Outcome, texts, st.none() | st.integers(0, 255), texts, texts, st.just(NONE), st.integers(-1, 9), texts
    )
    return st.builds(
        RunInfo,
        target=texts,
        title=texts,
        argv=st.lists(texts, max_size=3),
        duration_ns=st.integers(0, 2**60),
        outcome=outcomes,
    )


def _column(column: str, holds: Any, sizes: dict[str, int], strings: int) -> st.SearchStrategy[int]:
    if isinstance(holds, Text):
        return st.integers(NONE, strings - 1)
    if isinstance(holds, RowOf):
        return st.integers(NONE if holds.optional else 0, sizes[holds.table] - (0 if holds.or_end else 1))
    if isinstance(holds, OneOf):
        return st.sampled_from([int(kind) for kind in holds.kinds])
    if column == "nbytes":
        return st.integers(0, 2**50)
    if isinstance(holds, AnyOf):
        return st.integers(0, sum(holds.flags))
    code = holds.typecode
    return st.integers(0 if code.isupper() else -(2 ** _BITS[code]), 2 ** _BITS[code] - 1)


def _with_valid_rows(draw: st.DrawFn, table: Table[Any], row: list[int], sizes: dict[str, int]) -> list[int]:
    """With ids of the tables that the kinds name, where a kind says what a number stands for."""
    given = dict(zip(table.declared, row, strict=True))
    for column, declared in table.declared.items():
        if isinstance(declared.holds, ByKind):
            row_of = declared.holds.rows.get(given[declared.holds.kind])  # type: ignore[call-overload]
            if row_of is not None:
                given[column] = draw(_column(column, row_of, sizes, 0))
    return list(given.values())


def contents(recording: Recording) -> dict[str, Any]:
    """All that a recording holds, to compare."""
    tables = {name: table.columns for name, table in recording.tables.items()}
    others = {name: value for name, value in vars(recording).items() if name not in tables}
    return tables | others
