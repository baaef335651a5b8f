"""The tables that are exported: those of a recording, with texts and names in the place of ids.

They are the views that a recording's file has for people, but for ids: where a row has none, there is no value.
"""

# Types are evaluated here: a named tuple would compile each that is left as text, and every command would wait for it.

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Literal, NamedTuple

from gradscope.recording import Recording
from gradscope.recording.column_marks import AnyOf, ByKind, Holds, OneOf, RowOf
from gradscope.recording.field_docs import field_docs
from gradscope.recording.file.schema_sql import ShownColumn, holds_in_words, shown_columns
from gradscope.recording.model import Outcome, RunInfo

RUNS, ANSWERS = "runs", "answers"
"""The tables that are no table of a recording."""

ColumnType = Literal["number", "text", "truth", "texts"]
"""A signed 64-bit number, text, true or false, a list of texts."""

_TYPES: Mapping[str, ColumnType] = {"number": "number", "text": "text", "truth": "truth"}
_ID = "Number of the row, from 0, in the table of its process."
_PLACE_DOCS = {
    "file": "Where the row belongs in the user's code: the file.",
    "line": "Its line.",
    "function": "The qualified name of the function; `<module>` at top level.",
    "name": "The first name that the program was seen to have for it.",
}
_SIDE: Mapping[str, tuple[str, Mapping[str, tuple[ColumnType, str]]]] = {
    "files": (
        "A file of the user's code that made an op, with its text as it was run.",
        {
            "path": ("text", "As Python names it."),
            "name": ("text", "As `file` in the other tables has it."),
            "text": ("text", "The source, as it was run."),
            "is_user": ("truth", "False for a library's."),
        },
    ),
    "faults": (
        "An error inside the recorder, which never reaches the program.",
        {
            "where": ("text", "The op or step at which it happened."),
            "traceback": ("text", "The innermost call last."),
            "count": ("number", "How often."),
        },
    ),
}
_ANSWER_COLUMNS: Mapping[str, tuple[ColumnType, str]] = {
    "code": ("text", "Permanent: `gradscope explain CODE` says what it means."),
    "severity": ("text", "`problem`, `warning` or `note`."),
    "text": ("text", "The sentence."),
    "subject": ("text", "What it is about: the name of a tensor, or several."),
    "file": ("text", "The line to change: its file."),
    "line": ("number", "Its line."),
    "function": ("text", "Its function."),
    "source": ("text", "Its source text."),
    "advice": ("text", "What to do about it, where a rule knows; it is part of the text."),
}


class ExportedColumn(NamedTuple):
    """A column."""

    type: ColumnType
    description: str
    shown: ShownColumn | None = None
    """Where it comes from in a recording's file; None: from elsewhere."""


class ExportedTable(NamedTuple):
    """A table."""

    description: str
    columns: Mapping[str, ExportedColumn]


@cache
def exported_tables() -> Mapping[str, ExportedTable]:
    """Every table by its name."""
    recording = Recording()
    tables = {RUNS: _runs()}
    tables |= {name: _table_of_recording(name, recording) for name in recording.tables}
    for name, (description, described) in _SIDE.items():
        columns = {"id": _id_column()}
        columns |= {
            column: ExportedColumn(kind, text, ShownColumn(f't."{column}"', "truth" if kind == "truth" else "text"))
            for column, (kind, text) in described.items()
        }
        tables[name] = ExportedTable(description, columns)
    answers = {name: ExportedColumn(kind, text) for name, (kind, text) in _ANSWER_COLUMNS.items()}
    tables[ANSWERS] = ExportedTable("What the diagnoses find in a process (only with `--answers`).", answers)
    return tables


def _id_column() -> ExportedColumn:
    return ExportedColumn("number", _ID, ShownColumn("t.id", "number"))


def _runs() -> ExportedTable:
    """One row a process: the fields of :class:`RunInfo`, those of its outcome among them."""
    kinds: dict[object, ColumnType] = {int: "number", bool: "truth", list: "texts"}
    columns = {"recording": ExportedColumn("text", "The file that it was read from.")}
    for prefix, described in (("", RunInfo), ("outcome_", Outcome)):
        docs, initial = field_docs(described), described()
        for field in fields(described):
            if field.name in ("outcome", "rank", "child", "file"):
                continue  # its own columns, those of every table, and an id that another row stands for
            kind = "number" if field.name == "exit_code" else kinds.get(type(getattr(initial, field.name)), "text")
            columns[f"{prefix}{field.name}"] = ExportedColumn(kind, docs.get(field.name, ""))
    return ExportedTable("A process: what was run, with what, and how it ended.", columns)


def _table_of_recording(name: str, recording: Recording) -> ExportedTable:
    table = recording.tables[name]
    docs = field_docs(table.row_type)  # type: ignore[arg-type]
    columns = {}
    for column, shown in shown_columns(name, recording).items():
        holds = table.declared[shown.column].holds if shown.column else None
        text = _description(column, shown, docs.get(shown.column, ""), holds)
        if shown.holds == "row" and holds is not None:
            value = shown._replace(expression=f"NULLIF({shown.expression}, -1)")
            columns[column] = ExportedColumn("number", text, value)
        elif shown.holds == "by kind" and holds is not None:
            value = shown._replace(expression=f"CAST({shown.expression} AS TEXT)")
            columns[column] = ExportedColumn("text", text, value)
            number = ShownColumn(f't."{column}"', "number", column)
            columns[f"{column}_number"] = ExportedColumn("number", f"`{column}` as {holds_in_words(holds)}.", number)
        else:
            columns[column] = ExportedColumn(_TYPES[shown.holds], text, shown)
    return ExportedTable(" ".join((table.row_type.__doc__ or "").split()), columns)


def _description(column: str, shown: ShownColumn, doc: str, holds: Holds | None) -> str:
    """What a column means: as its declaration says, with what the view makes of it."""
    if holds is None:
        return _PLACE_DOCS.get(column, _ID)
    if isinstance(holds, OneOf):
        return "One of " + ", ".join(f"`{kind.name.lower()}`" for kind in holds.kinds) + "."
    if isinstance(holds, AnyOf):
        docs = {flag.lower(): text for flag, text in field_docs(holds.flags).items()}
        return docs.get(column, "" if shown.holds == "truth" else f"{holds_in_words(holds).capitalize()}.")
    if isinstance(holds, ByKind):
        return f"{doc} By the row's `{holds.kind}`: a name, or a number as text.".strip()
    if shown.holds == "row":
        held = holds_in_words(holds).replace(", or -1", ", or null")
        return " ".join(filter(None, (f"{held[0].upper()}{held[1:]}.", doc)))
    what = column.removeprefix(f"{shown.column}_")
    if what != column and doc:
        return f"The {what} of: {doc}"
    return doc or (f"The name of `{column}_id`." if isinstance(holds, RowOf) and not what.endswith("line") else "")
