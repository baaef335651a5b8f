"""Values of expressions when a program is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from gradscope.errors import EvaluationError
from gradscope.expressions.extra_names import ExpectationNames
from gradscope.expressions.known_parts import NotingExpression
from gradscope.expressions.raised_errors import RaisedErrors
from gradscope.hosting.probes import Probe
from gradscope.hosting.program_run import ProgramRun
from gradscope.targets.program import Program

ShownT = TypeVar("ShownT")


class Evaluation:
    """Expressions to evaluate when one program is over.

    Args:
        program: What will be run.
        expressions: Evaluated in its module, in order.

    Raises:
        UsageError: An expression is no Python.
    """

    def __init__(self, program: Program, expressions: Sequence[str]) -> None:
        self._expressions = [NotingExpression(expression, "the expression") for expression in expressions]
        self._errors = RaisedErrors()
        wants_errors = any("raised" in expression.names for expression in self._expressions)
        self.probes: list[Probe] = self._errors.probes(program) if wants_errors else []
        """To give to the program's run."""

    def values(self, run: ProgramRun, show: Callable[[Any], ShownT]) -> list[ShownT]:
        """Each value as ``show`` makes it.

        Raises:
            EvaluationError: An expression raised, or its value cannot be shown.
        """
        self._errors.run = run
        own: Mapping[str, Any] = vars(run.module) if run.module is not None else {}
        names = {**ExpectationNames(self._errors).namespace(), **own}
        with run.quietly():
            return [_value(expression, names, show) for expression in self._expressions]


def _value(expression: NotingExpression, names: Mapping[str, Any], show: Callable[[Any], ShownT]) -> ShownT:
    try:
        return show(expression.evaluate(names))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        message = f"{type(error).__name__}: {error}".rstrip(": ")
        raise EvaluationError(f"{expression.text} raises {message}") from error
