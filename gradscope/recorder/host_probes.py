"""Code run after (or before) chosen statements of a program, which the program cannot see.

A probe is compiled into the program as an expression statement of its own, at the position of the statement that it
belongs to: no name is defined, no line moves, and the frame that it runs in is the statement's.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType

_PLACEHOLDER = "\0gradscope probe\0"
"""A constant that the compiled code holds until the real object takes its place."""

Action = Callable[[FrameType], None]


@dataclass(frozen=True)
class Probe:
    """What to do at a statement."""

    line: int
    column: int
    """Where the statement begins, in UTF-8 bytes like the AST."""
    before: bool
    action: Action
    """Called with the statement's frame; it must not raise."""


class _Actions:
    """Stands in the compiled code: ``actions @ number`` runs the action of that number in the frame it stands in."""

    def __init__(self, actions: Sequence[Action]) -> None:
        self._actions = actions

    def __matmul__(self, number: int) -> None:
        self._actions[number](sys._getframe(1))


def with_probes(tree: ast.Module, filename: str, probes: Sequence[Probe], mode: str = "exec") -> CodeType:
    """Compile a program with probes.

    Args:
        tree: The parsed program; it is changed.
        filename: As for :func:`compile`.
        probes: In the order in which those of one statement run.
        mode: ``exec``, or ``single`` as the REPL compiles.
    """
    before: dict[tuple[int, int], list[int]] = {}
    after: dict[tuple[int, int], list[int]] = {}
    for number, probe in enumerate(probes):
        (before if probe.before else after).setdefault((probe.line, probe.column), []).append(number)
    _insert(tree, before, after)
    whole: ast.Module | ast.Interactive = ast.Interactive(tree.body) if mode == "single" else tree
    code = compile(whole, filename, mode, dont_inherit=True)
    return _bind(code, _Actions([probe.action for probe in probes]))


_DOCUMENTED = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

Numbers = Mapping[tuple[int, int], Sequence[int]]


def _insert(tree: ast.AST, before: Numbers, after: Numbers) -> None:
    for node in list(ast.walk(tree)):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                has_docstring = field == "body" and not isinstance(
                    node, (ast.If, ast.For, ast.While, ast.With, ast.Try)
                )
                setattr(node, field, _with_calls(block, before, after, has_docstring and _is_text(block[0])))


def _with_calls(block: list[ast.stmt], before: Numbers, after: Numbers, has_docstring: bool) -> list[ast.stmt]:
    result: list[ast.stmt] = []
    waiting: list[ast.stmt] = []
    for position, statement in enumerate(block):
        key = (statement.lineno, statement.col_offset)
        calls = [_call(statement, number) for number in before.get(key, ())]
        if (has_docstring and position == 0) or _is_future_import(statement):
            waiting += calls  # nothing may stand before these
        else:
            result += waiting + calls
            waiting = []
        result.append(statement)
        waiting += [_call(statement, number) for number in after.get(key, ())]
    return result + waiting


def _call(statement: ast.stmt, number: int) -> ast.stmt:
    call = ast.Expr(ast.BinOp(ast.Constant(_PLACEHOLDER), ast.MatMult(), ast.Constant(number)))
    for node in ast.walk(call):
        ast.copy_location(node, statement)
    return call


def _is_text(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _is_future_import(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"


def _bind(code: CodeType, actions: _Actions) -> CodeType:
    constants: list[object] = []
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            constants.append(_bind(constant, actions))
        else:
            constants.append(actions if constant == _PLACEHOLDER else constant)
    return code.replace(co_consts=tuple(constants))
