"""Statements that leave a function, or a round of a loop, between two of its lines, so that the second does not run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_Exit = ast.Return | ast.Continue | ast.Break


class EarlyExit(NamedTuple):
    """One statement that leaves."""

    line: int
    end_line: int
    word: str
    """``return``, ``continue`` or ``break``."""
    condition: int
    """The line of the innermost ``if`` that it stands under."""


def early_exit(text: str, first: int, last: int) -> EarlyExit | None:
    """The one statement that leaves between two lines of one function; None where there is none, or are several."""
    tree = parsed(text)
    if tree is None:
        return None
    scopes = {_scope(tree, line) for line in (first, last)}
    if len(scopes) != 1:
        return None
    found = [
        EarlyExit(node.lineno, node.end_lineno or node.lineno, type(node).__name__.lower(), around[-1].lineno)
        for node, around, loops in _exits(scopes.pop(), (), ())
        if first < node.lineno < last and around and not _holds(around[-1], last)
        if isinstance(node, ast.Return) or (loops and _holds(loops[-1], first) and _holds(loops[-1], last))
    ]
    return found[0] if len(found) == 1 else None


def condition_of_last(text: str, first: int, last: int) -> int:
    """The line of the one ``if`` that the second of two lines stands under and the first does not; 0 where none is."""
    tree = parsed(text)
    if tree is None or _scope(tree, first) is not _scope(tree, last):
        return 0
    found = [
        node.lineno
        for node in ast.walk(_scope(tree, last))
        if isinstance(node, ast.If) and first < node.lineno < last and _holds(node, last)
    ]
    return found[0] if len(found) == 1 else 0


def _scope(tree: ast.Module, line: int) -> ast.AST:
    """The innermost function around a line, or the file."""
    around = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS[:2]) and _holds(node, line)]
    return max(around, key=lambda node: node.lineno, default=tree)


def _holds(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _exits(
    node: ast.AST, around: tuple[ast.If, ...], loops: tuple[ast.stmt, ...]
) -> Iterator[tuple[_Exit, tuple[ast.If, ...], tuple[ast.stmt, ...]]]:
    """The exits below a node, each with the conditions and the loops around it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Exit):
            yield child, around, loops
        elif not isinstance(child, _FUNCTIONS):
            conditions = (*around, child) if isinstance(child, ast.If) else around
            yield from _exits(child, conditions, (*loops, child) if isinstance(child, _LOOPS) else loops)
