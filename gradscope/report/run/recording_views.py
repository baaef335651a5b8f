"""What a recording shows of itself in Python and in a notebook: its answers, its lines as rows, its screen, its HTML.

A recording lies below the analyses and finds this module by its name, when it is asked for one of these.
"""

from __future__ import annotations

from html import escape
from io import StringIO
from typing import Any

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from gradscope.analysis.view import RunView
from gradscope.recording import Recording
from gradscope.report.run.run_result import RunResult
from gradscope.report.run.table_format import write
from gradscope.report.screen.text import safe

_STYLE = {
    "problem": "color:#c62828;font-weight:bold",
    "warning": "color:#b26a00;font-weight:bold",
    "note": "color:#757575;font-weight:bold",
}
"""Readable on light and on dark pages."""


def answers(recording: Recording) -> tuple[Answer, ...]:
    """What the diagnoses find, the most harmful first."""
    return build(recording).answers


def lines(recording: Recording) -> list[dict[str, Any]]:
    """The line table: a row a statement and tensor."""
    return [row._asdict() for row in build(recording).lines]


def as_text(recording: Recording, width: int, everything: bool) -> str:
    """The screen of ``gradscope report``, without colour."""
    stream = StringIO()
    write(RunResult(recording, RunView(width=width, all=everything, color=False)), stream)
    return stream.getvalue()


def as_html(recording: Recording) -> str:
    """The answers, and the screen below them to be opened; all text of the program is text."""
    items = "".join(
        f'<li><span style="{_STYLE[answer.severity]}">{answer.severity}</span> {_text(answer.text)} '
        f"<code>[{_text(answer.code)}]</code></li>"
        for answer in answers(recording)
    )
    listed = f'<ul style="list-style:none;padding-left:0">{items}</ul>' if items else "<p>No answers.</p>"
    screen = f"<pre>{_text(as_text(recording, 100, False))}</pre>"
    return (
        f"<div><code>{_text(repr(recording))}</code>{listed}<details><summary>Lines</summary>{screen}</details></div>"
    )


def _text(text: str) -> str:
    return escape("\n".join(map(safe, text.split("\n"))))
