"""Whether a function hands on what a statement of it computes beside its result: keeps it, or returns it so."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import assigned_names, innermost, parsed


def hands_on(text: str, line: int) -> bool:
    """Whether what a line assigns to a name is put on an object or into a container, or returned within a tuple.

    True where the text does not tell.
    """
    tree = parsed(text)
    around = innermost(tree, line, ast.FunctionDef) if tree is not None else None
    statement = innermost(tree, line, ast.Assign) if tree is not None else None
    if around is None or statement is None:
        return True
    names = set(assigned_names(statement))
    for node in ast.walk(around):
        given: list[ast.expr] = []
        if isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name):
            given = [node.value]
        elif isinstance(node, ast.Return | ast.Yield) and not isinstance(node.value, ast.Name | ast.Call):
            given = [node.value] if node.value is not None else []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            given = node.args if node.func.attr in ("append", "insert", "setdefault", "extend", "add") else []
        if any(isinstance(part, ast.Name) and part.id in names for one in given for part in ast.walk(one)):
            return True
    return not names
