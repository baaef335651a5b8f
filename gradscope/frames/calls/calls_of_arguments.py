"""Calls of what a function was given: ``closure()`` in ``def step(self, closure=None)``."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import innermost, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def called_argument(text: str, line: int, region: int) -> str:
    """The argument that a line calls, of a function in which another line stands, or as its decorator; else empty.

    Args:
        text: Source of the file.
        line: The line with the call.
        region: The other line.
    """
    tree = parsed(text)
    function = innermost(tree, line, *_FUNCTIONS) if tree is not None else None
    if not isinstance(function, _FUNCTIONS):
        return ""
    first = min([function.lineno, *(one.lineno for one in function.decorator_list)])
    if not first <= region <= (function.end_lineno or 0):
        return ""
    arguments = {one.arg for one in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)}
    for node in ast.walk(function):
        is_here = isinstance(node, ast.Call) and node.lineno <= line <= (node.end_lineno or 0)
        if isinstance(node, ast.Call) and is_here and isinstance(node.func, ast.Name) and node.func.id in arguments:
            return node.func.id
    return ""
