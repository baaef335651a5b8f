"""Of what a method is called at a line: ``self.scaler`` where ``self.scaler.unscale_(optimizer)`` stands."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.frames.syntax_trees import dotted_name, last_name, parsed


def receivers_at(text: str, line: int, method: str) -> frozenset[str]:
    """The dotted names of those whose method is called in a statement's lines."""
    calls = _calls_of_method(text, method)
    return frozenset(dotted_name(of) for first, last, of in calls if first <= line <= last)


def calls_on(text: str, receiver: str, method: str) -> tuple[tuple[int, int], ...]:
    """First and last lines of the calls of a method of what has a name as its last one."""
    calls = _calls_of_method(text, method)
    return tuple(sorted((first, last) for first, last, of in calls if last_name(of) == receiver))


def _calls_of_method(text: str, method: str) -> Iterator[tuple[int, int, ast.expr]]:
    """First and last line, and what it is called of."""
    tree = parsed(text)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
            yield node.lineno, node.end_lineno or node.lineno, node.func.value
