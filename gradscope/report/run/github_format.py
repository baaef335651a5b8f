"""Annotations for GitHub's workflows: each answer beside the line to change."""

from __future__ import annotations

import os
from collections import Counter
from typing import TextIO

from gradscope.analysis.report_model import Answer, Severity
from gradscope.report.github_commands import AnnotationLevel, annotation
from gradscope.report.run.answer_beside import place_of, text_beside
from gradscope.report.run.run_result import RunResult
from gradscope.report.run.summary import counted

_LEVELS: dict[Severity, AnnotationLevel] = {"problem": "error", "warning": "warning", "note": "notice"}


def write(result: RunResult, stream: TextIO) -> None:
    """Write an annotation an answer, and how many there are."""
    answers = result.report.answers
    for answer in answers:
        stream.write(f"{_annotation(answer)}\n")
    counts = Counter(answer.severity for answer in answers)
    stream.write(", ".join(counted(counts[severity], severity) for severity in _LEVELS) + "\n")


def _annotation(answer: Answer) -> str:
    level, title = _LEVELS[answer.severity], f"gradscope: {answer.code}"
    where = place_of(answer)
    if where is None:
        return annotation(level, title, answer.text)
    file = os.path.normpath(where.file)
    return annotation(level, title, text_beside(answer, where), file=file, line=where.line, end_line=where.end_line)
