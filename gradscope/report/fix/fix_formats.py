"""The edits of ``gradscope fix`` as JSON, as text and as a diff."""

from __future__ import annotations

from gradscope.experiments.fix.fix_model import FixReport
from gradscope.report.fix.fix_screen import render_fixes
from gradscope.report.json_document import JsonDocument
from gradscope.report.screen.plain_text import plain_text

DOCUMENT = JsonDocument("gradscope-fix", 1, FixReport, ("offered", "none"))
"""1: the first."""


def as_json(report: FixReport) -> str:
    """Everything as one object."""
    return DOCUMENT.text(report, "offered" if report.offered else "none")


def as_text(report: FixReport, width: int | None = None) -> str:
    """The screen without colour."""
    return plain_text(render_fixes, report, width)


def as_diff(report: FixReport) -> str:
    """The edits that are offered, as ``patch -p1`` and ``git apply`` take them."""
    return report.diff
