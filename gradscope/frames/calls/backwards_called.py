"""Where a function that a line calls runs backward for it, on a loss as it was given."""

from __future__ import annotations

import ast

from gradscope.frames.calls.calls_of_functions import CallLines
from gradscope.frames.syntax_trees import innermost, last_name, parsed


def backwards_called(text: str, line: int) -> list[CallLines]:
    """The calls ``loss.backward()`` of functions of the same text that the statement at a line calls by their names.

    None where the line calls ``backward`` of something itself. ``scaler.scale(loss).backward()`` is no such call.
    """
    tree = parsed(text)
    statement = innermost(tree, line, ast.stmt) if tree is not None else None
    if tree is None or statement is None:
        return []
    names = {last_name(node.func) for node in ast.walk(statement) if isinstance(node, ast.Call)}
    if any(isinstance(node, ast.Call) and _is_pass(node) for node in ast.walk(statement)):
        return []
    return [
        CallLines(node.lineno, node.end_lineno or node.lineno, function.name)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name in names
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and _is_pass(node)
    ]


def _is_pass(call: ast.Call) -> bool:
    """``loss.backward()`` of a plain name."""
    return (
        isinstance(call.func, ast.Attribute) and call.func.attr == "backward" and isinstance(call.func.value, ast.Name)
    )
