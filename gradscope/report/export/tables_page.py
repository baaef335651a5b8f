"""The page of the tables that are exported, from what the columns' declarations say."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradscope.report.export.exported_tables import ExportedTable, exported_tables

_HEAD = """# The tables that `gradscope export` writes

Made by `gradscope schema parquet`. Each table has the columns `run` and `rank`, by which its files are partitioned, and
`child`: which of the processes that the program started, empty for the program itself. An id counts within these three:
join by them and the id. Sizes are bytes; what is not known or not there has no value.
"""
_TYPES = {"number": "BIGINT", "text": "VARCHAR", "truth": "BOOLEAN", "texts": "VARCHAR[]"}


def tables_page() -> str:
    """The page, as Markdown."""
    return "\n".join([_HEAD, *(line for name, table in exported_tables().items() for line in _table(name, table))])


def _table(name: str, table: ExportedTable) -> Iterator[str]:
    yield f"## {name}\n\n{_plain(table.description)}\n\n| column | type | what it is |\n|---|---|---|"
    for column, one in table.columns.items():
        yield f"| {column} | {_TYPES[one.type]} | {_plain(one.description).replace('|', chr(92) + '|')} |"
    yield ""


def _plain(text: str) -> str:
    """A docstring's text without the markup that only documentation of Python has."""
    return re.sub(r":\w+:`([^`]*)`", r"`\1`", text.replace("``", "`"))
