"""JSON Lines: one record a line, each with its ``type``, the run itself first. For tools that read as it comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from gradscope.analysis.report_model import Report
from gradscope.report.json_values import is_array, plain, write_lines
from gradscope.report.run.json_format import head
from gradscope.report.run.run_result import RunResult

TYPE = "type"


def record_type(part: str) -> str:
    """The type of the records of one part of a report: ``line`` for ``lines``."""
    return {"watches": "watch"}.get(part, part.removesuffix("s"))


def write(result: RunResult, stream: TextIO) -> None:
    """Write the report, a record a line."""
    write_lines(_records(result.report), stream)


def _records(report: Report) -> Iterator[Mapping[str, Any]]:
    yield {TYPE: "run", **head(report), **plain(report.run)}
    for part in Report._fields:
        value = getattr(report, part)
        if part == "run":
            continue
        for record in value if is_array(value) else (value,):
            found = {"text": record} if isinstance(record, str) else plain(record)
            yield {TYPE: record_type(part), **found}
