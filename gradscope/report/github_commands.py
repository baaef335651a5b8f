"""Workflow commands of GitHub Actions: annotations beside lines of files, of whose text GitHub obeys nothing."""

from __future__ import annotations

from typing import Literal

from gradscope.report.screen.text import safe

AnnotationLevel = Literal["error", "warning", "notice"]


def annotation(
    level: AnnotationLevel, title: str, message: str, *, file: str = "", line: int = 0, end_line: int = 0
) -> str:
    """The command for one annotation.

    Args:
        level: How bad it is.
        title: Shown above the message.
        message: May have several lines.
        file: Relative to the repository's root.
        line: 0 where it is about no line.
        end_line: Where it is about several, the last.
    """
    numbers = {"line": f"{line:d}" if line else "", "endLine": str(end_line) if end_line > line else ""}
    properties = {"file": file, **numbers, "title": title}
    given = ",".join(f"{name}={_property(value)}" for name, value in properties.items() if value)
    return f"::{level} {given}::{_message(message)}"


def _message(text: str) -> str:
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return safe(escaped)


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
