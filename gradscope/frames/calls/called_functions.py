"""Which functions a statement calls, by their names: ``freeze(nn.Linear(3, 3))`` calls ``freeze``."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed


class CalledFunctions(NamedTuple):
    """The names that are called in a file."""

    by_line: dict[int, frozenset[str]]
    """By the first line of each statement, what it calls itself; what the blocks that it heads call is theirs."""
    by_function: dict[str, frozenset[str]]
    """By name of each function or class of the file, what is called in it."""


def called_functions(text: str) -> CalledFunctions:
    """Read a file; of one that cannot be parsed nothing is known."""
    by_line: dict[int, frozenset[str]] = {}
    by_function: dict[str, frozenset[str]] = {}
    tree = parsed(text)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            by_function[node.name] = by_function.get(node.name, frozenset()) | _called_in([node])
        elif isinstance(node, ast.stmt):
            parts = [part for part in ast.iter_child_nodes(node) if not isinstance(part, ast.stmt)]
            by_line[node.lineno] = by_line.get(node.lineno, frozenset()) | _called_in(parts)
    return CalledFunctions(by_line, by_function)


def _called_in(parts: Iterable[ast.AST]) -> frozenset[str]:
    calls = (node for part in parts for node in ast.walk(part) if isinstance(node, ast.Call))
    return frozenset(filter(None, (last_name(call.func) for call in calls)))
