"""Where a text calls a function by its name: ``pool.query(images)`` for ``query``."""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.syntax_trees import innermost, last_name, parsed


class CallLines(NamedTuple):
    """A call."""

    line: int
    end_line: int
    function: str
    """The name of the function around it; empty for none."""


@lru_cache(maxsize=64)
def calls_of(text: str, name: str) -> tuple[CallLines, ...]:
    """All calls of what has a name as its last one, in the order of their lines."""
    tree = parsed(text)
    found = []
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Call) and last_name(node.func) == name:
            around = innermost(tree, node.lineno, ast.FunctionDef, ast.AsyncFunctionDef) if tree is not None else None
            found.append(CallLines(node.lineno, node.end_lineno or node.lineno, getattr(around, "name", "")))
    return tuple(sorted(found))


def calls_that_run(text: str, name: str) -> tuple[CallLines, ...]:
    """Calls of a function by its name, and those that are handed it: ``net.apply(init_weights)``."""
    tree = parsed(text)
    found = list(calls_of(text, name))
    for node in ast.walk(tree) if tree is not None else ():
        given = [*node.args, *(one.value for one in node.keywords)] if isinstance(node, ast.Call) else []
        if isinstance(node, ast.Call) and any(last_name(one) == name for one in given):
            around = innermost(tree, node.lineno, ast.FunctionDef, ast.AsyncFunctionDef) if tree is not None else None
            found.append(CallLines(node.lineno, node.end_lineno or node.lineno, getattr(around, "name", "")))
    return tuple(sorted(set(found)))
