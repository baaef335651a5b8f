"""Whether lines of a text run in the same rounds of a loop, as far as calls by name show."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator

from gradscope.frames.syntax_trees import innermost, parsed

_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_CODE = (ast.FunctionDef, ast.AsyncFunctionDef)
_CALLS = 64
"""Calls on the way to a loop that are looked at."""


def share_a_loop(text: str, line: int, others: Collection[int]) -> bool:
    """Whether the innermost loop that a line runs in, also by a call, has one of other lines in it or a call to one."""
    tree = parsed(text)
    if tree is None:
        return False
    loops = [loop for at in _with_callers(tree, line, outside_loops=True) if (loop := _loop_at(tree, at)) is not None]
    inside = {at for other in others for at in _with_callers(tree, other, outside_loops=False)}
    return any(loop.lineno <= at <= (loop.end_lineno or 0) for loop in loops for at in inside)


def _loop_at(tree: ast.Module, line: int) -> ast.stmt | None:
    """The innermost loop around a line in its own function."""
    loop, function = innermost(tree, line, *_LOOPS), innermost(tree, line, *_CODE)
    return loop if loop is not None and (function is None or loop.lineno > function.lineno) else None


def _with_callers(tree: ast.Module, line: int, *, outside_loops: bool) -> Iterator[int]:
    """A line, and the lines of calls that lead to it: on from where there is no loop yet, or from everywhere."""
    todo, seen = [line], {line}
    while todo and len(seen) < _CALLS:
        at = todo.pop()
        yield at
        name = getattr(innermost(tree, at, *_CODE), "name", "")
        if not name or (outside_loops and _loop_at(tree, at) is not None):
            continue
        for node in ast.walk(tree):
            called = node.func if isinstance(node, ast.Call) else None
            by = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if isinstance(node, ast.Call) and by == name and node.lineno not in seen:
                seen.add(node.lineno)
                todo.append(node.lineno)
