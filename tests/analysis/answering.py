"""Answers for tests, made by hand, and a recording of a text that nobody ran."""

from __future__ import annotations

from gradscope.analysis.report_model import Answer, Cause, Place, Severity
from gradscope.recording import Recording, SourceFile

FILE = "train.py"


def answer(
    code: str = "grad-none-unreached",
    line: int = 9,
    cause: int = 0,
    *,
    severity: Severity = "problem",
    text: str = "",
    advice: str = "",
    source: str = "",
    function: str = "<module>",
) -> Answer:
    """An answer that shows at a line, and whose line to change is another (0: unknown)."""
    causes = (Cause(FILE, cause, cause, (), function, source or f"line{cause}()", "cut"),) if cause else ()
    place = Place(FILE, line, line, function, source or f"line{line}()")
    words = text or f"{code} at line {line}."
    return Answer(code, severity, f"{words} {advice}".strip(), place, "x", "x", causes, (), advice)


def read_as(text: str) -> Recording:
    """A recording whose one file has a text."""
    recording = Recording()
    recording.files.append(SourceFile(f"/project/{FILE}", FILE, text))
    return recording
