"""The expression of ``gradscope why``: what it names, evaluated where the program ends or raises, or at a line."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

from gradscope.analysis.why.asked import Condition, Looked, LookedAt, Numbers, Question
from gradscope.errors import UsageError
from gradscope.expressions.plain_values import on_one_line
from gradscope.expressions.undisturbed import is_traced, undisturbed
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
_MESSAGE = 100
"""Characters of an error's message."""
_EXACT = 1 << 24
"""Elements up to which a tensor is looked at in double precision, of which a copy is made."""


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
        if question.expression:
            self._tensor = compile(question.tensor, "<why>", "eval", dont_inherit=True)
            self._whole = compile(question.expression, "<why>", "eval", dont_inherit=True)
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
        """What the expression gives with these names; nothing but an interrupt passes through."""
        recorder = self._run.recorder if self._run is not None else None
        op = recorder.op_count if recorder is not None else 0
        with undisturbed(may_draw=True):
            try:
                return self._looked_at(op, names)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                is_unknown = isinstance(error, (NameError, AttributeError, KeyError, IndexError))
                said = on_one_line(f"{type(error).__name__}: {error}")[:_MESSAGE]
                where = f"{self._question.expression}, evaluated {self._where}, raises {said}"
                return Looked(op, error=where, is_unknown=is_unknown)

    def _looked_at(self, op: int, names: Mapping[str, Any]) -> Looked:
        import torch

        scope = {**names, "__warningregistry__": {}}
        value = eval(self._tensor, scope)
        if not isinstance(value, torch.Tensor) and self._question.of_gradient:
            value = eval(self._whole, scope)  # an object of the program's own that has a ``grad``
        if not isinstance(value, torch.Tensor):
            hint = _what_to_ask(value, self._question, names)
            return Looked(op, error=_no_tensor(self._question.tensor, value), hint=hint)
        row = self._row_of(value)
        if row == NONE:
            self._waiting.append((len(self._looks) if self._question.at else 0, value))
        gradient = value.grad
        return Looked(
            op,
            row,
            is_none=gradient is None,
            values=_numbers(value),
            gradient=None if gradient is None else _numbers(gradient),
            shape=str(tuple(value.shape)),
            requires_grad=value.requires_grad,
        )


def _numbers(tensor: Any) -> Numbers | None:
    """What a tensor holds; None where that cannot be asked (a meta tensor, text of a subclass)."""
    import torch

    with torch.no_grad():
        try:
            values = (tensor.to_dense() if tensor.layout is not torch.strided else tensor).detach()
            values = torch.view_as_real(values.resolve_conj()) if values.is_complex() else values
            values = (values.double() if values.numel() <= _EXACT else values.float()).flatten()
            finite = values[torch.isfinite(values)]
            known = values[~torch.isnan(values)]
            low, high = (known.min().item(), known.max().item()) if known.numel() else (0.0, 0.0)
            return Numbers(
                values.numel(),
                finite.norm().item(),
                low,
                high,
                int(torch.isnan(values).sum().item()),
                int(torch.isinf(values).sum().item()),
            )
        except (RuntimeError, NotImplementedError, TypeError):
            return None


def _no_tensor(expression: str, value: Any) -> str:
    if value is None:
        return f"{expression} is None, no tensor"
    kind = type(value).__name__
    return f"{expression} is {'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}, no tensor"


def _what_to_ask(value: Any, question: Question, names: Mapping[str, Any]) -> str:
    """A tensor that may be meant: a module's parameter, or what the value was taken from."""
    import torch

    if isinstance(value, torch.nn.Module):
        name = next((name for name, _ in value.named_parameters()), "")
        return f"ask for one of its parameters: {question.tensor}.{name}.grad" if name else ""
    for node in ast.walk(ast.parse(question.tensor, mode="eval")):
        if isinstance(node, ast.Name) and isinstance(names.get(node.id), torch.Tensor):
            return f"ask for a tensor: {node.id}"
    return "ask for a tensor, such as x, x.grad or model.fc.weight.grad"
