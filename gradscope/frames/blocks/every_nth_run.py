"""Whether a text lets a line run in every so many rounds: under a condition that asks for a remainder."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.frames.syntax_trees import innermost, last_name, parsed

_CODE = (ast.FunctionDef, ast.AsyncFunctionDef)
_CALLERS = 3
"""Functions that are followed from a line to where they are called."""


def runs_by_remainder(text: str, line: int) -> bool:
    """Whether ``if step % 5 == 0:`` stands around a line, or around each call of the function that it is in."""
    tree = parsed(text)
    return tree is not None and _is_counted(tree, line, _CALLERS)


def _is_counted(tree: ast.Module, line: int, callers: int) -> bool:
    if any(_has_remainder(test) for test in _tests(tree, line)):
        return True
    function = innermost(tree, line, *_CODE)
    if not callers or not isinstance(function, _CODE):
        return False
    named = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and last_name(node.func) == function.name)
    calls = [node.lineno for node in named]
    return bool(calls) and all(_is_counted(tree, call, callers - 1) for call in calls)


def _tests(tree: ast.Module, line: int) -> Iterator[ast.expr]:
    """What decides in the function around a line whether it runs."""
    function = innermost(tree, line, *_CODE)
    since = function.lineno if function is not None else 0
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and node.lineno >= since:
            if any(part[0].lineno <= line <= (part[-1].end_lineno or 0) for part in (node.body, node.orelse) if part):
                yield node.test
        elif isinstance(node, ast.IfExp) and node.lineno <= line <= (node.end_lineno or 0):
            yield node.test
        elif isinstance(node, ast.BoolOp) and node.lineno <= line <= (node.end_lineno or 0):
            yield node.values[0]


def _has_remainder(test: ast.expr) -> bool:
    return any(isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) for node in ast.walk(test))
