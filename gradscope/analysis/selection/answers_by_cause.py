"""Answers that one edit would mend, as one."""

from __future__ import annotations

from collections.abc import Iterable

from gradscope.analysis.report_model import Answer


def answers_by_cause(answers: Iterable[Answer]) -> list[list[Answer]]:
    """Answers with the same first cause together, in the order of the first of each; one without a cause by itself."""
    alike: dict[object, list[Answer]] = {}
    for number, answer in enumerate(answers):
        cause = (answer.causes[0].file, answer.causes[0].line) if answer.causes else number
        alike.setdefault(cause, []).append(answer)
    return list(alike.values())
