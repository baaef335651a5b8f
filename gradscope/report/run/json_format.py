"""JSON: the whole report as one object. ``gradscope schema`` prints its JSON Schema."""

from __future__ import annotations

from typing import Any, TextIO

from gradscope.analysis.report_model import Report
from gradscope.report.json_values import write_object
from gradscope.report.run.run_result import RunResult

FORMAT = "gradscope-run"

VERSION = 1
"""Raised with every change that could break a reader; keys are only ever added, which breaks none. The log:

1. The first.
"""


def head(report: Report) -> dict[str, Any]:
    """What every result begins with: which format it is, and how the run ended."""
    return {"format": FORMAT, "version": VERSION, "outcome": report.run.outcome}


def write(result: RunResult, stream: TextIO) -> None:
    """Write the report."""
    report = result.report
    write_object(head(report) | {name: getattr(report, name) for name in Report._fields}, stream)
