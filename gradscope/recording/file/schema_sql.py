"""The tables and views of a recording's file, as SQL.

Every table of :class:`Recording` is a table of the same name and columns with its row id as ``id``, and numbers only.
Beside each stands a view for people (``op_view``, ``tensor_view``, ``saved_view`` …): it begins with ``file``,
``line`` and ``function`` of the row, spells out texts, kinds and flags, and shows a name in the place of an id (of a
tensor, a node, an op's function), which is beside it as ``tensor_id``, ``node_id`` and so on. The table ``columns``
says what each column holds. Text that is no valid Unicode (a lone surrogate) is a BLOB: UTF-8 with the surrogate
encoded as if it were one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Literal, NamedTuple

from gradscope.recording.column_marks import AnyOf, ByKind, Declaration, Holds, OneOf, RowOf, Text
from gradscope.recording.field_docs import field_docs
from gradscope.recording.model import SCHEMA_VERSION, Recording

APPLICATION_ID = 0x67726164
"""``grad`` in ASCII: by which SQLite's header (and ``file``) knows a recording."""

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

_NAME_OF_ROW: dict[str, tuple[str, ...]] = {
    "ops": ("ops.func", "strings.text"),
    "nodes": ("nodes.name", "strings.text"),
    "files": ("files.name",),
    "modules": ("modules.kind", "strings.text"),
}
"""By which columns the name of a table's row is found; that of a tensor by its bindings."""

_LAYOUT = ("shape", "dtype", "device", "type_name")
"""What a view shows of a layout, which has no name."""

_PLACE: dict[str, tuple[str, ...]] = {
    "file": ("spans.file", "files.name"),
    "line": ("spans.line",),
    "function": ("spans.function", "strings.text"),
}
"""What a view shows of a span, and by which columns it is found."""

_TO_SPAN: dict[str, tuple[str, ...]] = {
    "span": (),
    "event": ("events.span",),
    "op": ("ops.span",),
    "node": ("nodes.op", "ops.span"),
    "tensor": ("tensors.op", "ops.span"),
    "storage": ("storages.op", "ops.span"),
}
"""By which columns the id in a column leads to a span; the first that a table has says where its rows belong."""


class ShownColumn(NamedTuple):
    """A column of a view."""

    expression: str
    """Of SQL; ``t`` is the table."""
    holds: Literal["number", "row", "text", "truth", "by kind"]
    """``row``: the id of one, or -1; ``by kind``: a name or a number, as another column of the row says."""
    column: str = ""
    """The column of the table that it shows; empty: it shows where the row belongs, or is its id."""


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
    return f"CREATE VIEW {view_name(name, recording)} AS {select_sql(name, shown_columns(name, recording))}"


def select_sql(table: str, columns: Mapping[str, ShownColumn]) -> str:
    """The statement that gives columns of all rows of a table."""
    selected = ", ".join(f'{shown.expression} AS "{column}"' for column, shown in columns.items())
    return f'SELECT {selected} FROM "{table}" AS t'


def shown_columns(table: str, recording: Recording) -> dict[str, ShownColumn]:
    """The columns of the view that stands beside a table."""
    columns = recording.tables[table].declared
    shown = {"id": ShownColumn("t.id", "number")}
    if table == "tensors":
        shown["name"] = ShownColumn(_name_of_tensor("t.id"), "text")
    if "line" not in columns:
        shown |= _place_of(columns)
    for column, declared in columns.items():
        shown |= {name: one._replace(column=column) for name, one in _shown(column, declared.holds).items()}
    return shown


def _place_of(columns: dict[str, Declaration]) -> dict[str, ShownColumn]:
    """File, line and function of a table's rows, where one of its columns leads to a span."""
    for column, path in _TO_SPAN.items():
        if column in columns:
            return {what: _place(what, f't."{column}"', *path) for what in _PLACE}
    return {}


def _place(what: str, row: str, *path: str) -> ShownColumn:
    return ShownColumn(_look_up(row, *path, *_PLACE[what]), "number" if what == "line" else "text")


def _shown(column: str, holds: Holds) -> dict[str, ShownColumn]:
    """The view's columns for one of the table."""
    value = f't."{column}"'
    if isinstance(holds, Text):
        return {column: ShownColumn(_look_up(value, "strings.text"), "text")}
    if isinstance(holds, OneOf):
        cases = " ".join(f"WHEN {kind.value} THEN '{kind.name.lower()}'" for kind in holds.kinds)
        return {column: ShownColumn(f"CASE {value} {cases} END", "text")}
    if isinstance(holds, AnyOf):
        flags = {str(flag.name).lower(): f"({value} & {flag.value}) <> 0" for flag in holds.flags}
        return {column: ShownColumn(value, "number")} | {name: ShownColumn(one, "truth") for name, one in flags.items()}
    if isinstance(holds, ByKind):
        cases = " ".join(f"WHEN {kind.value} THEN {_named(value, row.table)}" for kind, row in holds.rows.items())
        return {column: ShownColumn(f'CASE t."{holds.kind}" {cases} ELSE {value} END', "by kind")}
    if isinstance(holds, RowOf):
        return _shown_row(column, value, holds.table)
    if holds.typecode == "Q":
        return {column: ShownColumn(f"printf('0x%x', {value})", "text")}
    return {column: ShownColumn(value, "number")}


def _shown_row(column: str, value: str, table: str) -> dict[str, ShownColumn]:
    """A name and the id; of a span its place, unless that is the row's own; of the op that ended a life its line."""
    if column == "died":
        return {column: ShownColumn(value, "row"), "died_line": _place("line", value, *_TO_SPAN["op"])}
    row = {f"{column}_id": ShownColumn(value, "row")}
    if table == "layouts":
        texts = {what: _look_up(value, f"layouts.{what}", "strings.text") for what in _LAYOUT}
        return row | {what: ShownColumn(text, "text") for what, text in texts.items()}
    if table == "spans":
        return row | ({} if column == "span" else {f"{column}_{what}": _place(what, value) for what in _PLACE})
    name = _named(value, table)
    return row if table == "storages" else row | {column: ShownColumn(name, "row" if name == value else "text")}


def _named(row: str, table: str) -> str:
    """What stands for a row of a table: its name, the shape of a layout; the id of a storage, which has none."""
    if table == "tensors":
        return _name_of_tensor(row)
    if table == "layouts":
        return _look_up(row, "layouts.shape", "strings.text")
    return _look_up(row, *_NAME_OF_ROW.get(table, ()))


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
            (name, column, holds_in_words(declared.holds), docs.get(column, ""))
            for column, declared in table.declared.items()
        ]
    return described


def holds_in_words(holds: Holds) -> str:
    """What a column holds, as the table ``columns`` says it."""
    if isinstance(holds, Text):
        return "id of strings, or -1"
    if isinstance(holds, RowOf):
        end = ", or their number for the end of the run" if holds.or_end else ""
        return f"id of {holds.table}{end}{', or -1' if holds.optional else ''}"
    if isinstance(holds, OneOf):
        return ", ".join(f"{kind.value} {kind.name}" for kind in holds.kinds)
    if isinstance(holds, AnyOf):
        return "sum of " + ", ".join(f"{flag.value} {flag.name}" for flag in holds.flags)
    if isinstance(holds, ByKind):
        rows = "; ".join(f"{kind.name}: {holds_in_words(row_of)}" for kind, row_of in holds.rows.items())
        return f"by {holds.kind}: number; {rows}"
    return "number; from 2**63 on less 2**64, as SQLite knows signed ones only" if holds.typecode == "Q" else "number"
