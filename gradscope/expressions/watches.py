"""Watched expressions: ``# watch:`` comments and ``--watch``, evaluated in the program's frames and noted as rows."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from gradscope.expressions.undisturbed import is_traced
from gradscope.expressions.watched_expression import WatchedExpression
from gradscope.frames.frame_locals import reading_locals
from gradscope.hosting.probes import Action, Probe
from gradscope.targets.directives import blocks_of
from gradscope.targets.program import Directive, Program

if TYPE_CHECKING:
    from gradscope.hosting.program_run import ProgramRun
    from gradscope.recorder.session import Recorder


class Watches:
    """The watched expressions of one run.

    Args:
        program: What will be run.
        expressions: From ``--watch``.

    Raises:
        UsageError: An expression is no Python.
    """

    def __init__(self, program: Program, expressions: Sequence[str] = ()) -> None:
        self._program = program
        self._run: ProgramRun | None = None
        self._seen_at: dict[str, int] = {}
        self._last: dict[str, str] = {}
        self._unmet: dict[str, tuple[int, str]] = {}
        """Line and text of the last ``NameError`` of each followed expression."""
        self.probes: list[Probe] = []
        for directive in program.directives:
            if directive.kind == "watch":
                action = self._always(directive)
                self.probes.append(
                    Probe(directive.statement_line, directive.statement_column, directive.before, action)
                )
        for expression in expressions:
            self.probes += self._everywhere(expression)

    def attach(self, run: ProgramRun) -> None:
        """Tell which run this is about."""
        self._run = run

    def _always(self, directive: Directive) -> Action:
        expression, line = directive.expression, directive.statement_line
        watched = WatchedExpression(expression, class_name=directive.class_name)

        def action(frame: FrameType) -> None:
            if is_traced():
                return
            text, value, failed = self._value(watched, frame)
            self._note(expression, line, text, value, failed)

        return action

    def _everywhere(self, expression: str) -> list[Probe]:
        """Probes at every statement; a row where the value is another than before."""
        watched = WatchedExpression(expression, "--watch")
        places = [place for tree in _trees(self._program) for place in _places(tree, watched.names)]
        return [Probe(place.line, place.column, place.before, self._on_change(watched, place)) for place in places]

    def _on_change(self, watched: WatchedExpression, place: WatchPlace) -> Action:
        """Evaluate where torch did something since the last time, or where the statement names what is watched."""

        expression = watched.text

        def action(frame: FrameType) -> None:
            ops = self._op_count()
            if (not place.mentions and self._seen_at.get(expression) == ops) or is_traced():
                return
            self._seen_at[expression] = ops
            text, value, failed = self._value(watched, frame)
            if failed and text.startswith("NameError"):
                self._unmet[expression] = (place.shown, text)
                return  # not defined yet, or not in this function
            if self._last.get(expression) != text:
                self._last[expression] = text
                self._note(expression, place.shown, text, value, failed)

        return action

    def finish(self) -> None:
        """Note those followed expressions that had no value anywhere: a name may be misspelt."""
        for expression, (line, text) in self._unmet.items():
            if expression not in self._last:
                self._note(expression, line, text, None, True)

    @property
    def _recorder(self) -> Recorder | None:
        return self._run.recorder if self._run is not None else None

    def _op_count(self) -> int:
        return 0 if self._recorder is None else self._recorder.op_count

    def _note(self, expression: str, line: int, text: str, value: Any, failed: bool) -> None:
        if self._recorder is not None:
            self._recorder.observe_watch(expression, self._program.filename, line, text, value, failed)

    def _value(self, watched: WatchedExpression, frame: FrameType) -> tuple[str, Any, bool]:
        quietly = self._run.quietly() if self._run is not None else nullcontext()
        with quietly, reading_locals(frame, watching=True) as local_names:
            return watched.value({**frame.f_globals, **local_names})


def _trees(program: Program) -> list[ast.Module]:
    """The parsed source; snippets one by one, as one of them may be no Python."""
    if not program.kind.snippet:
        return [ast.parse(program.source)]
    trees = []
    for snippet in program.snippets:
        with suppress(SyntaxError, ValueError):
            trees.append(ast.parse(snippet.source))
    return trees


class WatchPlace(NamedTuple):
    """Where a watched expression is evaluated."""

    line: int
    column: int
    before: bool
    shown: int
    """The line that a new value is put down to."""
    mentions: bool
    """The statement names something that the expression names."""


def _places(tree: ast.Module, wanted: set[str]) -> list[WatchPlace]:
    places: dict[tuple[int, int, bool], WatchPlace] = {}
    for statement in ast.walk(tree):
        if isinstance(statement, ast.stmt):
            leaves = isinstance(statement, (ast.Return, ast.Raise, ast.Break, ast.Continue))
            mentions = _mentions(statement, wanted)
            found = [WatchPlace(statement.lineno, statement.col_offset, leaves, statement.lineno, mentions)]
            found += [
                WatchPlace(block[0].lineno, block[0].col_offset, True, statement.lineno, mentions)
                for block in blocks_of(statement)
            ]
            for place in found:
                places.setdefault(place[:3], place)
    return list(places.values())


def _mentions(statement: ast.stmt, wanted: set[str]) -> bool:
    names: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return bool(names & wanted)
