"""The two calls of a text by which a line runs twice, where there are two alone and neither is repeated by a loop."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.blocks.loops_around import loops_around
from gradscope.frames.calls.calls_of_functions import CallLines, calls_of
from gradscope.frames.syntax_trees import innermost, parsed

_CODE = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEPTH = 4


class TwoCallSites(NamedTuple):
    """Calls of one function."""

    function: str
    sites: tuple[CallLines, CallLines]


def two_call_sites(text: str, line: int) -> TwoCallSites | None:
    """The calls of the function around a line, or of the one that alone calls it, and so on; None for other numbers.

    None, too, where what the line reads was handed to the function: that may differ from call to call.
    """
    tree = parsed(text)
    for depth in range(_DEPTH):
        function = innermost(tree, line, *_CODE) if tree is not None else None
        if tree is None or not isinstance(function, _CODE) or (depth == 0 and _reads_numbers_given(function, line)):
            return None
        calls = calls_of(text, function.name)
        if len(calls) == 2 and calls[0].line != calls[1].line:
            return TwoCallSites(function.name, (calls[0], calls[1]))
        if len(calls) != 1 or loops_around(text, calls[0].line):
            return None
        line = calls[0].line
    return None


def _reads_numbers_given(function: ast.FunctionDef | ast.AsyncFunctionDef, line: int) -> bool:
    """Whether arguments of calls at a line are parameters of the function, or what is made of them."""
    given = {one.arg for one in ast.walk(function.args) if isinstance(one, ast.arg)} - {"self", "cls"}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and _names(node.value) & given:
            given |= {name for target in node.targets for name in _names(target)} - {"self", "cls"}
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and node.lineno <= line <= _end(node)]
    return any(_names(value) & given for call in calls for value in (*call.args, *(one.value for one in call.keywords)))


def _names(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _end(node: ast.Call) -> int:
    return node.end_lineno or node.lineno
