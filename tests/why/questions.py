"""Programs written for one test, and what ``why`` says of them."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from gradscope.analysis.why.why_builder import answer_question
from gradscope.analysis.why.why_model import WhyAnswer
from gradscope.expressions.asking import Asking, read_question
from gradscope.hosting.program_run import ProgramRun
from gradscope.targets.resolve import resolve


def why(
    source: str,
    folder: Path,
    text: str = "",
    *,
    at: int = 0,
    lines: tuple[int, int] | None = None,
    nan: bool = False,
) -> WhyAnswer:
    """Run a program in this process and answer a question about it."""
    path = folder / f"program{len(list(folder.iterdir()))}.py"
    path.write_text(dedent(source).lstrip("\n"))
    program, question = resolve(str(path)), read_question(text, at, lines)
    asking = Asking(program, question)
    run = ProgramRun(program, companion=asking, nan=nan)
    try:
        run.run()
        return answer_question(question, asking.found(), run.recording, program.filename)
    finally:
        run.restore()


def lines_of(answer: WhyAnswer) -> list[int]:
    """The lines of the way, the loss first; 0 for a gap."""
    return [step.place.line for step in answer.way]


def cuts_of(answer: WhyAnswer) -> list[int]:
    """The lines of the way at which autograd lost track."""
    return [step.place.line for step in answer.way if step.kind == "cut"]
