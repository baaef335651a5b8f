"""``gradscope schema``: what the JSON looks like, as JSON Schema."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Annotated

import typer


class Described(str, Enum):
    """What a schema describes."""

    JSON = "json"
    JSONL = "jsonl"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("schema")(schema)


def schema(
    format: Annotated[
        Described, typer.Argument(help="json: of run -f json; jsonl: of each line of run -f jsonl.")
    ] = Described.JSON,
) -> None:
    """Print the JSON Schema of the JSON that run and report write."""
    import json

    from gradscope.report.json_schema import run_lines_schema, run_schema

    found = run_schema() if format is Described.JSON else run_lines_schema()
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
