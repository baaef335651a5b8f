"""Where a function keeps what ``requires_grad`` is, and where it is set back to what was kept, as the text has it."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import innermost, last_name, parsed

_FLAG = "requires_grad"
_KEEPS = ("append", "setdefault", "add", "update", "extend")
"""Methods of containers that keep what they are given."""


def saves_flags_at(text: str, line: int) -> tuple[int, int] | None:
    """First and last line of the one statement of a function that keeps ``x.requires_grad``; None where it is not one.

    Args:
        text: Source of the file.
        line: A line of the function.
    """
    tree = parsed(text)
    around = innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef) if tree is not None else None
    found = [
        (node.lineno, node.end_lineno or node.lineno)
        for node in ast.walk(around or tree or ast.Module([], []))
        if isinstance(node, ast.Assign | ast.Expr) and _keeps(node)
    ]
    return found[0] if len(found) == 1 else None


def sets_back_at(text: str, line: int) -> bool:
    """Whether what a line sets ``requires_grad`` to is a name or something taken from a container, not a condition."""
    tree = parsed(text)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Assign) and node.lineno == line and _FLAG in map(last_name, node.targets):
            return _is_taken(node.value)
        is_call = isinstance(node, ast.Call) and node.lineno == line and last_name(node.func) == f"{_FLAG}_"
        if isinstance(node, ast.Call) and is_call and node.args:
            return _is_taken(node.args[0])
    return False


def _is_taken(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return last_name(value.func) in ("get", "pop")
    return isinstance(value, ast.Name | ast.Subscript | ast.Attribute)


def _keeps(statement: ast.Assign | ast.Expr) -> bool:
    value = statement.value
    if isinstance(statement, ast.Expr):
        is_kept = isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in _KEEPS
        if not is_kept:
            return False
    return any(
        isinstance(node, ast.Attribute) and node.attr == _FLAG and isinstance(node.ctx, ast.Load)
        for node in ast.walk(value)
    )
