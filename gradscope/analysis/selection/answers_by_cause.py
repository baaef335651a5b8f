"""Answers that one edit would mend, as one."""

# Types are evaluated here: a named tuple would compile each that is left as text, and every report would wait for it.

from collections.abc import Iterable
from typing import NamedTuple

from gradscope.analysis.report_model import Answer


class AnswersOfCause(NamedTuple):
    """The answers whose line to change is the same."""

    first: Answer
    """The most harmful."""
    others: tuple[Answer, ...]


def answers_by_cause(answers: Iterable[Answer]) -> list[AnswersOfCause]:
    """Answers with the same first cause as one, in the order of the first of each; one without a cause by itself."""
    alike: dict[object, list[Answer]] = {}
    for number, answer in enumerate(answers):
        cause = (answer.causes[0].file, answer.causes[0].line) if answer.causes else number
        alike.setdefault(cause, []).append(answer)
    return [AnswersOfCause(first, tuple(others)) for first, *others in alike.values()]
