"""One line an answer, as linters write it: ``file:line:col: code sentence``, for the problem matchers of editors."""

from __future__ import annotations

import os
from typing import TextIO

from gradscope.analysis.report_model import Answer
from gradscope.report.run.answer_beside import place_of, text_beside
from gradscope.report.run.run_result import RunResult
from gradscope.report.screen.text import safe


def write(result: RunResult, stream: TextIO) -> None:
    """Write a line an answer; nothing where there is none."""
    for answer in result.report.answers:
        stream.write(f"{concise(answer)}\n")


def concise(answer: Answer) -> str:
    """An answer at the line to change (else at its own place), whose columns count from 1; without a line, no place."""
    where = place_of(answer)
    text = answer.text if where is None else text_beside(answer, where)
    sentence = safe(f"{answer.code} {' '.join(text.split())}")
    if where is None:
        return sentence
    first = answer.causes[0].columns[0] if answer.causes and answer.causes[0].columns else 0
    before = where.source.split("\n")[0].encode()[:first].decode(errors="replace")
    return f"{safe(os.path.normpath(where.file))}:{where.line:d}:{len(before) + 1}: {sentence}"
