"""The edits of ``gradscope fix`` as JSON, as text and as a diff; ``gradscope schema fix`` prints the JSON Schema."""

from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console

from gradscope.experiments.fix.fix_model import FixReport
from gradscope.report.fix.fix_screen import render_fixes
from gradscope.report.json_values import write_object

FORMAT = "gradscope-fix"

VERSION = 1
"""Raised with every change that could break a reader; keys are only ever added, which breaks none. The log:

1. The first.
"""

_TEXT_WIDTH = 100


def head(report: FixReport) -> dict[str, Any]:
    """What the result begins with: which format it is, and whether an edit is offered."""
    return {"format": FORMAT, "version": VERSION, "outcome": "offered" if report.offered else "none"}


def as_json(report: FixReport) -> str:
    """Everything as one object."""
    stream = StringIO()
    write_object(head(report) | {name: getattr(report, name) for name in FixReport._fields}, stream)
    return stream.getvalue()


def as_text(report: FixReport) -> str:
    """The screen without colour."""
    stream = StringIO()
    render_fixes(report, Console(file=stream, width=_TEXT_WIDTH, color_system=None))
    return stream.getvalue()


def as_diff(report: FixReport) -> str:
    """The edits that are offered, as ``patch -p1`` and ``git apply`` take them."""
    return report.diff
