"""The answer of ``gradscope why`` as JSON and as text; ``gradscope schema why`` prints the JSON Schema."""

from __future__ import annotations

from io import StringIO
from typing import Any

from gradscope.analysis.why.why_model import WhyAnswer
from gradscope.report.json_values import write_object
from gradscope.report.screen.pipe import console_on
from gradscope.report.why.why_screen import render_why

FORMAT = "gradscope-why"

VERSION = 1
"""Raised with every change that could break a reader; keys are only ever added, which breaks none. The log:

1. The first.
"""

_TEXT_WIDTH = 100


def head(answer: WhyAnswer) -> dict[str, Any]:
    """What the result begins with: which format it is, and whether there is an answer."""
    return {"format": FORMAT, "version": VERSION, "outcome": "answered" if answer.found else "open"}


def as_json(answer: WhyAnswer) -> str:
    """Everything as one object."""
    stream = StringIO()
    write_object(head(answer) | {name: getattr(answer, name) for name in WhyAnswer._fields}, stream)
    return stream.getvalue()


def as_text(answer: WhyAnswer, width: int = _TEXT_WIDTH) -> str:
    """The screen without colour."""
    stream = StringIO()
    render_why(answer, console_on(stream, width, color=False))
    return stream.getvalue()
