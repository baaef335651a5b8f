"""Conditions under which alone a file calls ``step()`` of something."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import innermost, parsed


class StepUnder(NamedTuple):
    """An ``if`` whose body makes the only step."""

    line: int
    test: str


def only_step_under(text: str, made: int, backward: int) -> StepUnder | None:
    """The ``if`` around the only call of ``step`` of what a line makes; None where there is another, or none at all.

    Args:
        text: Source of the file.
        made: The line that gives an optimizer a name.
        backward: A line that ran in the function of the step, and in the loop around it.
    """
    tree = parsed(text)
    statement = innermost(tree, made, ast.Assign) if tree is not None else None
    if tree is None or not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return None
    name = ast.unparse(statement.targets[0])
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"{name}.step" and not node.args
    ]
    around = innermost(tree, calls[0].lineno, ast.If) if len(calls) == 1 else None
    scopes = (ast.For, ast.While, ast.FunctionDef, ast.AsyncFunctionDef)
    if not isinstance(around, ast.If) or calls[0].lineno > (around.body[-1].end_lineno or 0):
        return None
    scope = innermost(tree, around.lineno, *scopes)
    is_beside = scope is not None and scope is innermost(tree, backward, *scopes)
    outside = innermost(tree, backward, ast.If)
    is_beside &= outside is None or outside is not around
    return StepUnder(around.lineno, ast.unparse(around.test)) if is_beside else None
