"""Code run after (or before) chosen statements of a program, which the program cannot see.

A probe is compiled into the program as an expression statement of its own, at the position of the statement that it
belongs to: it calls a builtin whose name no program can write. No line moves, no name of a module is defined, and the
frame that it runs in is the statement's. Its code can be marshalled like any other, and ``torch.compile`` takes the
call for a constant: while it compiles, the builtin does nothing.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from types import CodeType, FrameType
from typing import Any, NamedTuple

from gradscope.frames.tracebacks import PROBE_NAME

Action = Callable[[FrameType], None]

_runs = count(1)


class Probe(NamedTuple):
    """What to do at a statement."""

    line: int
    column: int
    """Where the statement begins, in UTF-8 bytes like the AST."""
    before: bool
    action: Action
    """Called with the statement's frame; it must not raise."""


class InsertedProbes:
    """The probes of one run, for a program that is compiled as a whole or statement by statement.

    Args:
        probes: In the order in which those of one statement run.
        filename: The file name that the program is compiled with.
    """

    def __init__(self, probes: Sequence[Probe], filename: str) -> None:
        self._name = f"{PROBE_NAME} {next(_runs)}__"  # with no "_" before it torch.compile would not look into it
        self._filename = filename
        self._actions = [probe.action for probe in probes]
        self._before: dict[tuple[int, int], list[int]] = {}
        self._after: dict[tuple[int, int], list[int]] = {}
        for number, probe in enumerate(probes):
            numbers = self._before if probe.before else self._after
            numbers.setdefault((probe.line, probe.column), []).append(number)

    def __bool__(self) -> bool:
        return bool(self._actions)

    def install(self) -> None:
        """From here on the compiled code can run."""
        if self._actions:
            setattr(builtins, self._name, _builtin(self._actions, self._filename))

    def outlive_builtins(self, names: dict[str, Any]) -> None:
        """The program is over, and so are the probes; what still runs of it when Python has taken our builtin away
        (a ``__del__``) finds another in its module.
        """
        if self._actions:
            names[self._name] = _do_nothing

    def remove(self) -> None:
        """Leave nothing behind."""
        vars(builtins).pop(self._name, None)

    def compile(self, tree: ast.Module, mode: str = "exec") -> CodeType:
        """Compile a program, or a part of it, with the probes of its statements.

        Args:
            tree: What is parsed; it is changed.
            mode: ``exec``, or ``single`` as the REPL compiles.
        """
        _Insertion(self._name, self._before, self._after).into(tree)
        whole: ast.Module | ast.Interactive = ast.Interactive(tree.body) if mode == "single" else tree
        return compile(whole, self._filename, mode, dont_inherit=True)


def _do_nothing(_: int) -> None:
    pass


def _builtin(actions: Sequence[Action], filename: str) -> Callable[[int], None]:
    def probe(number: int) -> None:
        frame = sys._getframe(1)
        if frame.f_code.co_filename == filename:  # else torch.compile asks which constant this is
            actions[number](frame)

    probe._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return probe


Numbers = Mapping[tuple[int, int], Sequence[int]]


class _Insertion(NamedTuple):
    """Puts calls of a builtin before and after statements."""

    name: str
    before: Numbers
    after: Numbers

    def into(self, tree: ast.AST) -> None:
        """Change a tree."""
        for node in list(ast.walk(tree)):
            for field in ("body", "orelse", "finalbody"):
                block = getattr(node, field, None)
                if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                    has_docstring = field == "body" and isinstance(node, _DOCUMENTED) and _is_text(block[0])
                    setattr(node, field, self._with_calls(block, has_docstring))

    def _with_calls(self, block: list[ast.stmt], has_docstring: bool) -> list[ast.stmt]:
        result: list[ast.stmt] = []
        waiting: list[ast.stmt] = []
        for position, statement in enumerate(block):
            key = (statement.lineno, statement.col_offset)
            calls = [self._call(statement, number) for number in self.before.get(key, ())]
            if (has_docstring and position == 0) or _is_future_import(statement):
                waiting += calls  # nothing may stand before these
            else:
                result += waiting + calls
                waiting = []
            result.append(statement)
            waiting += [self._call(statement, number) for number in self.after.get(key, ())]
        return result + waiting

    def _call(self, statement: ast.stmt, number: int) -> ast.stmt:
        call = ast.Expr(ast.Call(ast.Name(self.name, ast.Load()), [ast.Constant(number)], []))
        for node in ast.walk(call):
            ast.copy_location(node, statement)
        return call


_DOCUMENTED = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _is_text(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _is_future_import(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
