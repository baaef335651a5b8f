"""What a name was before it was written in place: another name for something, by its last assignment there."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import innermost, parsed

_CODE = (ast.FunctionDef, ast.AsyncFunctionDef)


def begun_as(text: str, line: int) -> tuple[int, int] | None:
    """The lines of the assignment that made what a line writes a second name: ``average = states[0]``.

    None where the line writes several names, or where the last assignment before it makes something with a call.
    """
    tree = parsed(text)
    function = innermost(tree, line, *_CODE) if tree is not None else None
    scope = function or tree
    if scope is None:
        return None
    statements = [node for node in ast.walk(scope) if isinstance(node, ast.stmt) and _covers(node, line)]
    names = {name for node in statements if (name := _written(node))}
    if len(names) != 1:
        return None
    name = names.pop()
    before = [
        node
        for node in ast.walk(scope)
        if isinstance(node, ast.Assign)
        and node.lineno < line
        and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
    ]
    last = max(before, key=lambda node: node.lineno, default=None)
    if last is None or not isinstance(last.value, ast.Subscript | ast.Name | ast.Attribute):
        return None
    return last.lineno, last.end_lineno or last.lineno


def _covers(node: ast.stmt, line: int) -> bool:
    is_simple = isinstance(node, ast.Expr | ast.AugAssign | ast.Assign)
    return is_simple and node.lineno <= line <= (node.end_lineno or 0)


def _written(node: ast.stmt) -> str:
    """The name behind what a statement adds to: ``average`` of ``average[key] += …`` and ``average[key].add_(…)``."""
    value: ast.AST | None = None
    if isinstance(node, ast.AugAssign):
        value = node.target
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        value = node.value.func
    while isinstance(value, ast.Subscript | ast.Attribute | ast.Call):
        value = value.func if isinstance(value, ast.Call) else value.value
    return value.id if isinstance(value, ast.Name) else ""
