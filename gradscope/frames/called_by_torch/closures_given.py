"""The function that an optimizer's step is given at a line, where it returns nothing."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import parsed


def closure_without_result(text: str, line: int) -> tuple[int, int, int] | None:
    """The line of a closure's ``def``, and first and last line of its last statement; None where it returns a value.

    Args:
        text: Source of the file.
        line: Where ``step`` is called: ``optimizer.step(closure)``, ``optimizer.step(self.closure)``.
    """
    tree = parsed(text)
    given = {
        value.attr if isinstance(value, ast.Attribute) else getattr(value, "id", "")
        for call in (ast.walk(tree) if tree is not None else ())
        if isinstance(call, ast.Call) and call.lineno <= line <= (call.end_lineno or call.lineno)
        if isinstance(call.func, ast.Attribute) and call.func.attr == "step"
        for value in (*call.args, *(keyword.value for keyword in call.keywords))
    }
    functions = [
        node
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.FunctionDef) and node.name in given
    ]
    if len(functions) != 1:
        return None
    (function,) = functions
    if any(isinstance(node, ast.Return) and node.value is not None for node in ast.walk(function)):
        return None
    last = function.body[-1]
    return function.lineno, last.lineno, last.end_lineno or last.lineno
