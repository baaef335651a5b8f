"""Where a text calls a function by its name: ``pool.query(images)`` for ``query``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
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
    return tuple(sorted(_lines(tree, node) for node in _calls(tree) if last_name(node.func) == name)) if tree else ()


def calls_that_run(text: str, name: str) -> tuple[CallLines, ...]:
    """Calls of a function by its name, and those that are handed it: ``net.apply(init_weights)``."""
    tree = parsed(text)
    handed = {
        _lines(tree, node)
        for node in (_calls(tree) if tree else ())
        if tree and any(last_name(one) == name for one in (*node.args, *(given.value for given in node.keywords)))
    }
    return tuple(sorted(handed.union(calls_of(text, name))))


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _lines(tree: ast.Module, call: ast.Call) -> CallLines:
    around = innermost(tree, call.lineno, ast.FunctionDef, ast.AsyncFunctionDef)
    return CallLines(call.lineno, call.end_lineno or call.lineno, getattr(around, "name", ""))
