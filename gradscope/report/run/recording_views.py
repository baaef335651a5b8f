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
    return _screen(RunResult(recording, RunView(width=width, all=everything, color=False)))


def as_html(recording: Recording) -> str:
    """What Jupyter shows of a recording."""
    return ShownRecording(recording, RunView(width=100, color=False))._repr_html_()


class ShownRecording:
    """A recording as IPython shows it: the screen; in a notebook the answers, and the screen to be opened.

    Args:
        recording: What was observed.
        view: What was asked for.
    """

    def __init__(self, recording: Recording, view: RunView) -> None:
        self._recording = recording
        self._result = RunResult(recording, view)

    def __repr__(self) -> str:
        return _screen(self._result).rstrip("\n")

    def _repr_html_(self) -> str:
        """The answers, and the screen below them to be opened; all text of the program is text."""
        report = self._result.report
        items = "".join(
            f'<li><span style="{_STYLE[answer.severity]}">{answer.severity}</span> {_text(answer.text)} '
            f"<code>[{_text(answer.code)}]</code></li>"
            for answer in report.answers
        )
        listed = f'<ul style="list-style:none;padding-left:0">{items}</ul>' if items else "<p>No answers.</p>"
        screen = f"<pre>{_text(_screen(self._result))}</pre>"
        head = _text(repr(self._recording))
        return f"<div><code>{head}</code>{listed}<details><summary>Lines</summary>{screen}</details></div>"


def _screen(result: RunResult) -> str:
    stream = StringIO()
    write(result, stream)
    return stream.getvalue()


def _text(text: str) -> str:
    return escape("\n".join(map(safe, text.split("\n"))))
