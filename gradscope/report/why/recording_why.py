"""What a recording answers by itself: ``recording.why("h.grad")``."""

from __future__ import annotations

from gradscope.analysis.why.asked import Looked, LookedAt
from gradscope.analysis.why.why_builder import answer_question
from gradscope.expressions.asking import read_question
from gradscope.recording import Recording
from gradscope.report.why.why_formats import as_text


def why(recording: Recording, expression: str, width: int) -> str:
    """The answer to a question about a tensor that the program had a name for, or about the first problem."""
    question = read_question(expression)
    unknown = Looked(len(recording.ops), error=f"the recording has no tensor named {question.tensor}", is_unknown=True)
    looked = LookedAt((unknown,) if question.expression else (), "at the end of the recording")
    return as_text(answer_question(question, looked, recording, ""), width)
