"""The answer of ``gradscope why`` as JSON and as text."""

from __future__ import annotations

from gradscope.analysis.why.why_model import WhyAnswer
from gradscope.report.json_document import JsonDocument
from gradscope.report.screen.plain_text import plain_text
from gradscope.report.why.why_screen import render_why

DOCUMENT = JsonDocument("gradscope-why", 1, WhyAnswer, ("answered", "open"))
"""1: the first."""


def as_json(answer: WhyAnswer) -> str:
    """Everything as one object."""
    return DOCUMENT.text(answer, "answered" if answer.found else "open")


def as_text(answer: WhyAnswer, width: int | None = None) -> str:
    """The screen without colour."""
    return plain_text(render_why, answer, width)
