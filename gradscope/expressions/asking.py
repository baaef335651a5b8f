"""The expression of ``gradscope why``: what it names, evaluated where the program ends or raises, or at a line."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

from gradscope.analysis.why.asked import Condition, Looked, LookedAt, Question
from gradscope.errors import UsageError
from gradscope.expressions.looking import Looking
from gradscope.expressions.undisturbed import is_traced
from gradscope.frames.frame_locals import reading_locals
from gradscope.hosting.probes import Probe
from gradscope.recording import NONE
from gradscope.targets.directives import statement_on_line
from gradscope.targets.program import Program

if TYPE_CHECKING:
    from gradscope.hosting.program_run import ProgramRun

_SAID = re.compile(r"(?s)(?P<expression>.+?)\s+is\s+(?P<word>none|missing|zero|zeros|0|nan|inf|infinite|infinity)\s*")
_CONDITIONS: dict[str, Condition] = {
    "none": "none",
    "missing": "none",
    "zero": "zero",
    "zeros": "zero",
    "0": "zero",
    "nan": "nan",
    "inf": "infinite",
    "infinite": "infinite",
    "infinity": "infinite",
}
_RUNS_KEPT = 10_000
"""Evaluations at one line of which what they found is kept: the first ones."""


def read_question(text: str, at: int = 0, lines: tuple[int, int] | None = None) -> Question:
    """What a question asks.

    Args:
        text: ``x.grad``, ``h``, ``model.fc.weight.grad is zero``; empty for none.
        at: The line of ``--at``.
        lines: Those of ``--line``.

    Raises:
        UsageError: It is no Python expression, or says two things at once.
    """
    text = text.strip()
    if lines is not None and text:
        raise UsageError("an expression and --line cannot be asked for together", "--at LINE says where it is meant")
    if at and not text:
        raise UsageError("--at says where an expression is evaluated, and there is none", "--line asks about a line")
    said = _SAID.fullmatch(text.lower())
    expression = text[: said.end("expression")] if said else text
    condition: Condition = _CONDITIONS[said["word"]] if said else ""
    tensor = expression
    if expression:
        body = _parsed(expression)
        if isinstance(body, ast.Attribute) and body.attr == "grad":
            tensor = ast.unparse(body.value)
    return Question(text, expression, tensor, tensor != expression, condition, at, lines)


def _parsed(expression: str) -> ast.expr:
    try:
        return ast.parse(expression, "<why>", "eval").body
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise UsageError(
            f"{expression!r} is no Python expression: {reason}",
            "ask for a tensor: x, x.grad, 'model.fc.weight.grad is zero'",
        ) from error


class Asking:
    """Evaluates the expression of a question beside one program; a companion of its run.

    Args:
        program: What will be run.
        question: What was asked.

    Raises:
        UsageError: There is no statement at the line of ``--at``.
    """

    def __init__(self, program: Program, question: Question) -> None:
        self._question = question
        self._run: ProgramRun | None = None
        self._looks: list[Looked] = []
        self._waiting: list[tuple[int, Any]] = []
        """Looks at tensors that no call had been seen to take in or give, which may be entered at the end."""
        self._where = f"at line {question.at}" if question.at else "where the program ends"
        self.ran = 0
        """How often the line of ``--at`` ran."""
        self.probes: list[Probe] = []
        self._looking = Looking(question)
        if question.at:
            self.probes.append(self._probe(program))

    def attach(self, run: ProgramRun) -> None:
        """Tell which run this is about."""
        self._run = run

    def finish(self) -> None:
        """The program is over: evaluate, where that is asked for here."""
        run = self._run
        if run is None or self._question.at or not self._question.expression:
            return
        names = dict(vars(run.module)) if run.module is not None else {}
        frames = run.frames_at_end()
        if frames:
            self._where = f"where the program raised (line {frames[0].f_lineno})"
        with run.quietly():
            for frame in frames:
                with reading_locals(frame, watching=True) as own:
                    look = self._look({**frame.f_globals, **own})
                if not look.is_unknown:
                    break
            else:
                look = self._look(names)
        self._looks = [look]

    def found(self) -> LookedAt:
        """What was found, once the recording is complete."""
        for position, tensor in self._waiting:
            self._looks[position] = self._looks[position]._replace(tensor=self._row_of(tensor))
        self._waiting.clear()
        return LookedAt(tuple(self._looks), self._where)

    def _row_of(self, tensor: Any) -> int:
        recorder = self._run.recorder if self._run is not None else None
        return NONE if recorder is None else recorder.row_of(tensor)

    def _probe(self, program: Program) -> Probe:
        line = self._question.at
        place = statement_on_line(program.source, line)
        if place is None:
            raise UsageError(f"{program.name} has no statement at line {line}", "--at takes the line of a statement")
        return Probe(*place, self._evaluate_in)

    def _evaluate_in(self, frame: FrameType) -> None:
        self.ran += 1
        if is_traced() or self._run is None or len(self._looks) >= _RUNS_KEPT:
            return
        with self._run.quietly(), reading_locals(frame, watching=True) as own:
            self._looks.append(self._look({**frame.f_globals, **own}))

    def _look(self, names: Mapping[str, Any]) -> Looked:
        recorder = self._run.recorder if self._run is not None else None
        op = recorder.op_count if recorder is not None else 0
        look, tensor = self._looking.look(names, self._where, op, self._row_of)
        if tensor is not None and look.tensor == NONE:
            self._waiting.append((len(self._looks) if self._question.at else 0, tensor))
        return look
