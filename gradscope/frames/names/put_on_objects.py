"""Where a function puts what it made on an object, and the one place that calls it: what the text of a file tells."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import innermost, parsed

_Function = ast.FunctionDef | ast.AsyncFunctionDef


class Placed(NamedTuple):
    """An assignment to an attribute: ``self.head = wider``."""

    line: int
    end_line: int
    attribute: str
    """Text of what is assigned to."""


def placed_later(text: str, line: int) -> Placed | None:
    """The later statement of the same function by which a name that a line gives is put on an object.

    None where the line gives no name, or the name is put nowhere, or in several places.
    """
    tree = parsed(text)
    scope = None if tree is None else innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef) or tree
    assigned = [node for node in ast.walk(scope) if isinstance(node, ast.Assign)] if scope is not None else []
    given = {
        node.targets[0].id
        for node in assigned
        if node.lineno <= line <= (node.end_lineno or 0) and isinstance(node.targets[0], ast.Name)
    }
    found = [
        Placed(node.lineno, node.end_lineno or node.lineno, ast.unparse(node.targets[0]))
        for node in assigned
        if node.lineno > line
        and isinstance(node.targets[0], ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in given
    ]
    return found[0] if len(found) == 1 else None


def called_once(text: str, line: int) -> tuple[int, int] | None:
    """First and last line of the only call in a file of the function around a line; None where there are others."""
    tree = parsed(text)
    function = None if tree is None else innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef)
    if tree is None or not isinstance(function, _Function):
        return None
    name = function.name
    if name == "__init__":  # which the call of the class calls
        owner = innermost(tree, line, ast.ClassDef)
        name = owner.name if isinstance(owner, ast.ClassDef) else ""
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == name
    ]
    return (calls[0].lineno, calls[0].end_lineno or calls[0].lineno) if len(calls) == 1 else None
