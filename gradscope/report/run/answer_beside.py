"""The text of an answer that is shown beside a line of a file: in an editor, in a review."""

from __future__ import annotations

import os
import re

from gradscope.analysis.report_model import Answer, Cause, Place

_OF_MAIN = re.compile(r"\b[Ll]ines? \d+(?:(?:,| and| to) \d+)*\b(?! of \S)(?!,? and \d)")
"""A line that a sentence names without its file: one of the program's main file."""


def place_of(answer: Answer) -> Cause | Place | None:
    """Where an answer is shown: at the line to change, else at its own place; None where it has no line."""
    where = answer.causes[0] if answer.causes else answer.place
    return where if where is not None and where.line else None


def text_beside(answer: Answer, where: Cause | Place) -> str:
    """Its text, with the name of the main file where it names lines of that, and another file is around it."""
    main = next((one.file for one in (answer.place, *answer.causes) if one is not None and _is_main(one)), "")
    if not main or main == where.file or not _OF_MAIN.search(answer.text):
        return answer.text
    return f"{answer.text} (Lines without a file are those of {os.path.normpath(main)}.)"


def _is_main(one: Cause | Place) -> bool:
    return bool(one.line) and not getattr(one.line, "of", "")
