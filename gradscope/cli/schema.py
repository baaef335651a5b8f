"""``gradscope schema``: what the JSON looks like, as JSON Schema."""

from __future__ import annotations

import sys
from enum import Enum
from importlib import import_module
from typing import Annotated, Any

import typer


class Described(str, Enum):
    """What a schema describes."""

    JSON = "json"
    JSONL = "jsonl"
    COMPARE = "compare"
    CHECK = "check"
    WHY = "why"
    WHATIF = "whatif"
    FIX = "fix"
    PARQUET = "parquet"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("schema")(schema)


def schema(
    format: Annotated[
        Described,
        typer.Argument(
            help="json: run -f json; jsonl: a line of run -f jsonl; compare, check, why, whatif, fix: -f json of these;"
            " parquet: the tables of export, as Markdown."
        ),
    ] = Described.JSON,
) -> None:
    """Print the JSON Schema of the JSON that run and report, compare, check, why, whatif or fix write.

    Of what export writes: what each table and column means, as Markdown.
    """
    if format is Described.PARQUET:
        from gradscope.report.export.tables_page import tables_page

        sys.stdout.write(tables_page())
        return
    import json

    sys.stdout.write(json.dumps(_schema_of(format), indent=2) + "\n")


def _schema_of(described: Described) -> dict[str, Any]:
    if described is Described.COMPARE:
        from gradscope.report.compare.compare_schema import compare_schema

        return compare_schema()
    if described is Described.CHECK:
        from gradscope.report.check.check_schema import check_schema

        return check_schema()
    if described in (Described.WHY, Described.WHATIF, Described.FIX):
        name = described.value
        found: dict[str, Any] = import_module(f"gradscope.report.{name}.{name}_formats").DOCUMENT.schema()
        return found
    from gradscope.report.json_schema import run_lines_schema, run_schema

    return run_schema() if described is Described.JSON else run_lines_schema()
