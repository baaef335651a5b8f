"""Whether a text takes parts of what a call at a line gives: each part that is kept may be another one."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import innermost, parsed


def is_sliced(text: str, line: int, method: str) -> bool:
    """Whether an index is applied to what a method gives at a line, there or by the name or function it is known by.

    Args:
        text: Source of the file.
        line: A line of the call.
        method: Its name: ``numpy``.
    """
    tree = parsed(text)
    statement = None if tree is None else innermost(tree, line, *_SIMPLE)
    if tree is None or statement is None:
        return True
    subscripts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Subscript)]
    here = [value for value in subscripts if statement.lineno <= value.lineno <= (statement.end_lineno or line)]
    if any(_calls(inner, method) for value in here for inner in ast.walk(value)):
        return True
    if isinstance(statement, ast.Assign):
        names = {ast.unparse(target) for target in statement.targets if isinstance(target, ast.Name | ast.Attribute)}
        return any(isinstance(value, ast.Name | ast.Attribute) and ast.unparse(value) in names for value in subscripts)
    if isinstance(statement, ast.Return):
        function = innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef)
        return any(_calls(value, getattr(function, "name", "")) for value in subscripts)
    return False


_SIMPLE = (ast.Assign, ast.AugAssign, ast.Expr, ast.Return)


def _calls(node: ast.AST, name: str) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    return name == (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", ""))
