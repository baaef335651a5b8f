"""``%gradscope why w.grad``: one question about the cell that ``%%gradscope`` ran last."""

from __future__ import annotations

from typing import Any, NamedTuple

from gradscope.analysis.why.asked import Looked, LookedAt
from gradscope.analysis.why.why_builder import answer_question
from gradscope.errors import EvaluationError, UsageError
from gradscope.expressions.asking import read_question
from gradscope.expressions.looking import Looking
from gradscope.recording import NONE, Recording

_HERE = "now"
"""Where the expression is evaluated, as a sentence says it."""


class RecordedCell(NamedTuple):
    """A cell that was run under the recorder."""

    recording: Recording
    recorder: Any
    """Which knows the tensors that still live."""
    number: int
    """Which the shell gives to the cell."""
    gradients: dict[int, tuple[Any, int]]
    """Those of leaves at its end, as the recorder gives them."""


def answer_about(last: RecordedCell, names: dict[str, Any], text: str, unseen: int) -> str:
    """The answer, as text.

    Args:
        last: The cell.
        names: Those of the shell, now.
        text: The expression; empty for the first problem of the cell.
        unseen: Cells that were run since, and not recorded.

    Raises:
        GradscopeError: The question cannot be understood, or is about nothing that the cell had.
    """
    from gradscope.report.why.why_formats import as_text

    question = read_question(text)
    looks: tuple[Looked, ...] = ()
    if question.expression:
        recorder = last.recorder
        look, tensor = Looking(question).look(names, _HERE, recorder.op_count, recorder.row_of)
        if tensor is not None:
            _check_unchanged(last, look, tensor, question.tensor)
        looks = (look,)
    answer = answer_question(question, LookedAt(looks, _HERE), last.recording, "")
    remarks = answer.remarks
    if unseen:
        cells = "a cell was" if unseen == 1 else f"{unseen} cells were"
        remarks += (f"{cells} run since then and not seen",)
    if answer.lacks_birth:
        remarks += ("%%gradscope --nan looks at every value",)
    return as_text(answer._replace(remarks=remarks)).strip("\n")


def _check_unchanged(last: RecordedCell, look: Looked, tensor: Any, name: str) -> None:
    """See whether the tensor is still as the cell left it: what other cells did was not seen, and explains nothing.

    Raises:
        EvaluationError: It is not, or the cell was not seen to use it.
    """
    hint = "put %%gradscope above the cell that did, and ask below it"
    if look.tensor == NONE:
        raise EvaluationError(f"the last cell under %%gradscope was not seen to use {name}", hint)
    known, version = last.gradients.get(look.tensor, (None, 0))
    gradient = None if look.is_none else tensor.grad
    before = None if known is None else known()
    is_same = gradient is before and (gradient is None or gradient._version == version)
    if not is_same or (known is not None and before is None):
        raise EvaluationError(f"{name}.grad was changed since the last cell under %%gradscope", hint)


def question_of(line: str) -> str:
    """The expression of ``why EXPR``.

    Raises:
        UsageError: It is another word.
    """
    word, _, expression = line.strip().partition(" ")
    if word != "why":
        raise UsageError(
            f"%gradscope {word}".rstrip() + " is nothing that is known",
            "%gradscope why w.grad asks about the last cell that was run with %%gradscope",
        )
    return expression.strip()
