"""The tables and views of a recording's file, as SQL.

Every table of :class:`Recording` is a table of the same name and columns with its row id as ``id``, and numbers only.
Beside each stands a view for people (``op_view``, ``tensor_view``, ``saved_view`` …) in which texts, kinds and flags
are spelled out and ids of other tables come with what they stand for. The table ``columns`` says what each column
holds. Text that is no valid Unicode (a lone surrogate) is a BLOB: UTF-8 with the surrogate encoded as if it were one.
"""

from __future__ import annotations

import sqlite3

from gradscope.recording.field_docs import field_docs
from gradscope.recording.file.relations import MEANINGS, AnyOf, Meaning, OneOf, RowOf, Text
from gradscope.recording.model import SCHEMA_VERSION, Recording

APPLICATION_ID = 0x67726164
"""``grad`` in ASCII: what SQLite's header (and ``file``) tells a recording by."""

SIDE_TABLES: dict[str, tuple[str, ...]] = {
    "meta": ("key", "value"),
    "strings": ("text",),
    "files": ("path", "name", "text", "is_user"),
    "faults": ("where", "traceback", "count"),
    "threads": ("name",),
}
"""Tables of text, and their columns beside ``id``. ``meta`` has the fields of ``RunInfo`` as JSON."""

SIDE_NUMBERS = frozenset(("is_user", "count"))
"""Columns of those tables that are no text."""

_EXPLAINED: dict[str, dict[str, tuple[str, ...]]] = {
    "files": {"name": ("files.name",)},
    "ops": {"func": ("ops.func", "strings.text"), "line": ("ops.span", "spans.line")},
    "spans": {
        "file": ("spans.file", "files.name"),
        "line": ("spans.line",),
        "function": ("spans.function", "strings.text"),
    },
    "layouts": {name: (f"layouts.{name}", "strings.text") for name in ("shape", "dtype", "device", "type_name")},
    "nodes": {"name": ("nodes.name", "strings.text")},
    "tensors": {},
    "storages": {},
}
"""What a view shows beside the id of another table's row, and by which columns it is found."""

_UNPREFIXED = frozenset(("span", "layout"))
"""Columns whose row is the one place or shape of theirs: ``line`` reads better than ``span_line``."""


def create_schema(connection: sqlite3.Connection, recording: Recording) -> None:
    """Create every table and view in an empty file."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("BEGIN")
    for name, columns in SIDE_TABLES.items():
        connection.execute(_create_table(name, columns))
    for name, table in recording.tables.items():
        connection.execute(_create_table(name, tuple(table.columns), integers=True))
        connection.execute(_create_view(name, recording))
    connection.execute("CREATE INDEX binding_of_tensor ON bindings (tensor)")
    connection.execute("CREATE TABLE columns (table_name TEXT, column_name TEXT, holds TEXT, description TEXT)")
    connection.executemany("INSERT INTO columns VALUES (?, ?, ?, ?)", _describe_columns(recording))
    connection.execute("COMMIT")


def insert_sql(name: str, columns: tuple[str, ...], replaces: bool = False) -> str:
    """The statement that writes one row of a table, its id first."""
    names = ", ".join(f'"{column}"' for column in ("id", *columns))
    marks = ", ".join("?" * (len(columns) + 1))
    return f'INSERT {"OR REPLACE " if replaces else ""}INTO "{name}" ({names}) VALUES ({marks})'


def view_name(table: str, recording: Recording) -> str:
    """The view that stands beside a table."""
    return "left_out_view" if table == "left_out" else f"{recording.tables[table].row_type.__name__.lower()}_view"


def _create_table(name: str, columns: tuple[str, ...], integers: bool = False) -> str:
    described = [f'"{column}"{" INTEGER NOT NULL" if integers or column in SIDE_NUMBERS else ""}' for column in columns]
    return f'CREATE TABLE "{name}" (id INTEGER PRIMARY KEY, {", ".join(described)})'


def _create_view(name: str, recording: Recording) -> str:
    table = recording.tables[name]
    shown = {"id": "t.id"}
    if name == "tensors":
        shown["name"] = _name_of_tensor("t.id")
    for column, code in zip(table.columns, table.typecodes, strict=True):
        shown.update(_shown(column, MEANINGS[name].get(column), is_unsigned=code == "Q"))
    selected = ", ".join(f'{expression} AS "{column}"' for column, expression in shown.items())
    return f'CREATE VIEW {view_name(name, recording)} AS SELECT {selected} FROM "{name}" AS t'


def _shown(column: str, meaning: Meaning | None, is_unsigned: bool) -> dict[str, str]:
    """The view's columns for one of the table, and the expression of each."""
    value = f't."{column}"'
    if isinstance(meaning, Text):
        return {column: _look_up(value, "strings.text")}
    if isinstance(meaning, OneOf):
        cases = " ".join(f"WHEN {kind.value} THEN '{kind.name.lower()}'" for kind in meaning.kinds)
        return {column: f"CASE {value} {cases} END"}
    if isinstance(meaning, AnyOf):
        flags = {str(flag.name).lower(): f"({value} & {flag.value}) <> 0" for flag in meaning.flags}
        return {column: value, **flags}
    if isinstance(meaning, RowOf) and column != "died":
        prefix = "" if column in _UNPREFIXED else f"{column}_"
        explained = {prefix + what: _look_up(value, *path) for what, path in _EXPLAINED[meaning.table].items()}
        if meaning.table == "tensors":
            explained[f"{column}_name"] = _name_of_tensor(value)
        return {column: value, **explained}
    return {column: f"printf('0x%x', {value})" if is_unsigned else value}


def _look_up(row: str, *path: str) -> str:
    """What a chain of ``table.column`` leads to from a row id; by primary keys, so its cost is the same in any file."""
    for step in path:
        table, column = step.split(".")
        row = f'(SELECT "{column}" FROM "{table}" WHERE "{table}".id = {row})'
    return row


def _name_of_tensor(row: str) -> str:
    first = f"(SELECT name FROM bindings WHERE bindings.tensor = {row} ORDER BY bindings.id LIMIT 1)"
    return _look_up(first, "strings.text")


def _describe_columns(recording: Recording) -> list[tuple[str, str, str, str]]:
    described = []
    for name, table in recording.tables.items():
        docs = field_docs(table.row_type)  # type: ignore[arg-type]
        described.append((name, "", "", (table.row_type.__doc__ or "").strip()))
        described += [
            (name, column, _holds(MEANINGS[name].get(column), code), docs.get(column, ""))
            for column, code in zip(table.columns, table.typecodes, strict=True)
        ]
    return described


def _holds(meaning: Meaning | None, code: str) -> str:
    if isinstance(meaning, Text):
        return "id of strings, or -1"
    if isinstance(meaning, RowOf):
        end = ", or their number for the end of the run" if meaning.or_end else ""
        return f"id of {meaning.table}{end}{', or -1' if meaning.optional else ''}"
    if isinstance(meaning, OneOf):
        return ", ".join(f"{kind.value} {kind.name}" for kind in meaning.kinds)
    if isinstance(meaning, AnyOf):
        return "sum of " + ", ".join(f"{flag.value} {flag.name}" for flag in meaning.flags)
    return "number; from 2**63 on less 2**64, as SQLite knows signed ones only" if code == "Q" else "number"
