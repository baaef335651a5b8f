"""Expectations: ``# expect:`` comments evaluated where they stand, and ``-e`` expressions when the program is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from gradscope.analysis.check_results import Expectation, Failure, Part, Verdict
from gradscope.recorder.expectation_errors import START, Moment, RaisedErrors
from gradscope.recorder.expectation_names import NAMES, ExpectationNames
from gradscope.recorder.expectation_values import NotingExpression
from gradscope.recorder.host_probes import Action, Probe
from gradscope.recorder.undisturbed import is_traced, undisturbed
from gradscope.targets.program import Directive, Program

if TYPE_CHECKING:
    from gradscope.recorder.host import ProgramRun

_LONGEST = 300
"""Characters of an error's message that are kept."""


class Expectations:
    """The expectations of one program.

    Give :attr:`probes` to its run, :meth:`attach` the run, and call :meth:`evaluate_at_end` when it is over.

    Args:
        program: What will be run.
        at_end: Expressions to evaluate when it is over, in its module.

    Raises:
        UsageError: An expression is no Python.
    """

    def __init__(self, program: Program, at_end: Sequence[str] = ()) -> None:
        self._errors = RaisedErrors()
        self._names = ExpectationNames(self._errors).namespace()
        directives = [directive for directive in program.directives if directive.kind == "expect"]
        self._checked = [_Checked(directive.expression, directive.line) for directive in directives]
        self._at_end = [_Checked(expression, 0) for expression in at_end]
        self._begun: dict[tuple[int, int], Moment] = {}
        self._on_news: Callable[[], None] = lambda: None
        self.probes: list[Probe] = []
        """What evaluates the comments."""
        if any("raised" in checked.expression.names for checked in [*self._checked, *self._at_end]):
            self.probes += self._errors.probes(program)
        for number, (directive, checked) in enumerate(zip(directives, self._checked, strict=True)):
            self.probes += self._probes_of(directive, checked, number)

    def attach(self, run: ProgramRun, on_news: Callable[[], None]) -> None:
        """Tell which run this is about, and what to do when a verdict is another than before."""
        self._errors.run = run
        self._on_news = on_news

    def evaluate_at_end(self, names: Mapping[str, Any]) -> None:
        """Evaluate the ``-e`` expressions with the names of the program's module."""
        self._errors.since = START
        for checked in self._at_end:
            self._evaluate(checked, names)

    def results(self) -> tuple[Expectation, ...]:
        """How each fared so far."""
        return tuple(checked.result() for checked in [*self._checked, *self._at_end])

    def _probes_of(self, directive: Directive, checked: _Checked, number: int) -> list[Probe]:
        line, column = directive.statement_line, directive.statement_column
        evaluate = Probe(line, column, directive.before, self._at(checked, number))
        if directive.before or "raised" not in checked.expression.names:
            return [evaluate]
        return [Probe(line, column, True, self._begins(number)), evaluate]

    def _begins(self, number: int) -> Action:
        def action(frame: FrameType) -> None:
            self._begun[number, id(frame)] = self._errors.now()

        return action

    def _at(self, checked: _Checked, number: int) -> Action:
        def action(frame: FrameType) -> None:
            from gradscope.recorder.frame_locals import reading_locals

            self._errors.since = self._begun.pop((number, id(frame)), START)
            if is_traced():
                return
            with reading_locals(frame) as names:
                self._evaluate(checked, {**frame.f_globals, **names})

        return action

    def _evaluate(self, checked: _Checked, names: Mapping[str, Any]) -> None:
        before = checked.verdict
        hidden = [name for name in NAMES if name in names]
        with undisturbed(may_draw=not checked.expression.calls <= set(NAMES).difference(hidden)):
            checked.evaluate({**self._names, **names}, hidden)
        if checked.verdict != before:
            self._on_news()


class _Checked:
    """One expectation, and what came of it so far."""

    def __init__(self, expression: str, line: int) -> None:
        self.expression = NotingExpression(expression, "# expect:" if line else "-e")
        self._line = line
        self._evaluations = 0
        self._failures = 0
        self._first: Failure | None = None

    def evaluate(self, names: Mapping[str, Any], hidden: Sequence[str]) -> None:
        """Evaluate it once; nothing but an interrupt passes through.

        Args:
            names: Everything that it can name.
            hidden: Functions of ours whose names the program uses for something else.
        """
        self._evaluations += 1
        values: dict[int, Any] = {}
        error = ""
        try:
            if self.expression.evaluate(names, values.__setitem__):
                return
        except KeyboardInterrupt:
            raise
        except BaseException as raised:
            error = _message(raised)
        self._failures += 1
        if self._first is None:
            parts = self.expression.describe(values) + tuple(
                Part(name, "the program's own, not gradscope's function of that name")
                for name in hidden
                if name in self.expression.names
            )
            self._first = Failure(self._evaluations, error, parts)

    @property
    def verdict(self) -> Verdict:
        """How it fares so far."""
        return self.result().verdict

    def result(self) -> Expectation:
        """How it fared."""
        return Expectation(self.expression.text, self._line, self._evaluations, self._failures, self._first)


def _message(error: BaseException) -> str:
    try:
        text = " ".join(f"{type(error).__name__}: {error}".rstrip(": ").split())
    except Exception:
        text = type(error).__name__
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
