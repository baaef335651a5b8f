"""Which of the answers to a recording are given: the one place where any is held back, and why."""

# Types are evaluated here: a named tuple would compile each that is left as text, and every report would wait for it.

from typing import TYPE_CHECKING, Any, NamedTuple

from gradscope.analysis.report_model import Answer, SuppressedAnswer
from gradscope.recording import Recording

if TYPE_CHECKING:
    from gradscope.analysis.selection.answer_selection import AnswerSelection
else:
    AnswerSelection = Any  # imported where an option asks for one

_MARK = "gradscope:"
"""What a file with a comment that ignores has in it."""


class SelectedAnswers(NamedTuple):
    """The answers to one recording."""

    given: tuple[Answer, ...]
    suppressed: tuple[SuppressedAnswer, ...]
    remarks: tuple[str, ...]
    """What could not be done as it was asked for."""


def select_answers(
    answers: tuple[Answer, ...], recording: Recording, wanted: AnswerSelection | None = None
) -> SelectedAnswers:
    """Hold back what was not asked for, what the source ignores, and what the baseline has."""
    select = wanted.select if wanted is not None else None
    ignore = wanted.ignore if wanted is not None else ()
    baseline = wanted.baseline if wanted is not None else None
    suppressed: list[SuppressedAnswer] = []
    left: list[Answer] = []
    for answer in answers:
        if (select is not None and answer.code not in select) or answer.code in ignore:
            suppressed.append(SuppressedAnswer("selection", answer))
        else:
            left.append(answer)
    remarks: tuple[str, ...] = ()
    if any(_MARK in file.text for file in recording.files):
        from gradscope.analysis.selection.ignoring_comments import IgnoringComments

        comments = IgnoringComments(recording)
        suppressed += [SuppressedAnswer("comment", answer) for answer in left if comments.ignore(answer)]
        left = [answer for answer in left if not comments.ignore(answer)]
        remarks = tuple(comments.remarks)
    if baseline is not None:
        marked = list(zip(left, baseline.new_among(left), strict=True))
        suppressed += [SuppressedAnswer("baseline", answer) for answer, is_new in marked if not is_new]
        left = [answer for answer, is_new in marked if is_new]
    return SelectedAnswers(tuple(left), tuple(suppressed), remarks)
