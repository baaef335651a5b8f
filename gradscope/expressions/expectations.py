"""Expectations: ``# expect:`` comments evaluated where they stand, and ``-e`` expressions when the program is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import CO_NESTED
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from gradscope.analysis.check_results import Expectation, Failure, Part, Verdict
from gradscope.expressions.extra_names import NAMES, ExpectationNames
from gradscope.expressions.known_parts import NotingExpression
from gradscope.expressions.raised_errors import START, Moment, RaisedErrors
from gradscope.expressions.undisturbed import is_traced, undisturbed
from gradscope.hosting.probes import Action, Probe
from gradscope.targets.program import Directive, Program

if TYPE_CHECKING:
    from gradscope.hosting.program_run import ProgramRun

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
        self._checked = [_Checked(_noting(directive), directive.line) for directive in directives]
        self._at_end = [_Checked(NotingExpression(expression, "-e"), 0) for expression in at_end]
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
            from gradscope.frames.frame_locals import reading_locals

            self._errors.since = self._begun.pop((number, id(frame)), START)
            if is_traced():
                return
            with reading_locals(frame, watching=True) as names:
                self._evaluate(checked, {**frame.f_globals, **names}, frame.f_code)

        return action

    def _evaluate(self, checked: _Checked, names: Mapping[str, Any], code: CodeType | None = None) -> None:
        before = checked.verdict
        hidden = [name for name in NAMES if name in names]
        with undisturbed(may_draw=not checked.expression.calls <= set(NAMES).difference(hidden)):
            checked.evaluate({**self._names, **names}, hidden, code)
        if checked.verdict != before:
            self._on_news()


class _Checked:
    """One expectation, and what came of it so far."""

    def __init__(self, expression: NotingExpression, line: int) -> None:
        self.expression = expression
        self._line = line
        self._evaluations = 0
        self._failures = 0
        self._first: Failure | None = None

    def evaluate(self, names: Mapping[str, Any], hidden: Sequence[str], code: CodeType | None) -> None:
        """Evaluate it once; nothing but an interrupt passes through.

        Args:
            names: Everything that it can name.
            hidden: Functions of ours whose names the program uses for something else.
            code: Of the frame that it is evaluated in.
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
            error = _message(raised) + _why_unknown(raised, code)
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


def _noting(directive: Directive) -> NotingExpression:
    return NotingExpression(directive.expression, "# expect:", directive.class_name)


def _why_unknown(error: BaseException, code: CodeType | None) -> str:
    """A function has a variable of the function around it only where it uses that itself."""
    if type(error) is not NameError or code is None or not code.co_flags & CO_NESTED:
        return ""
    is_own = error.name in code.co_varnames + code.co_cellvars + code.co_freevars
    return "" if is_own else f" (not a variable of {code.co_name}, whose own statements do not use it)"


def _message(error: BaseException) -> str:
    try:
        text = " ".join(f"{type(error).__name__}: {error}".rstrip(": ").split())
    except Exception:
        text = type(error).__name__
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
