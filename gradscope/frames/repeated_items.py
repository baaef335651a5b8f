"""Lists that repeat one object: ``[block] * depth``, which a statement is given."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import parsed

_MEANT = ("shared", "tied", "same", "recurrent", "universal")
"""Parts of names that say that one object is meant."""


class Repeated(NamedTuple):
    """A list display times a number."""

    line: int
    end_line: int
    item: str
    """Text of what is repeated."""


def repeated_item(text: str, line: int) -> Repeated | None:
    """The list of one item times a number that a statement has, or that a name in it was given in the same function.

    None where there is none, or several, or where the item's name says that one object is meant.
    """
    tree = parsed(text)
    statements = [
        node
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.Return, ast.Expr)) and _covers(node, line)
    ]
    if tree is None or not statements:
        return None
    statement = max(statements, key=lambda node: node.lineno)
    found = _repeats(statement)
    if not found:
        names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and _covers(node, line)]
        function = max(functions, key=lambda node: node.lineno, default=tree)
        found = [
            one
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in names
            for one in _repeats(node)
        ]
    if len(found) != 1 or any(word in found[0].item.lower() for word in _MEANT):
        return None
    return found[0]


def _covers(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _repeats(statement: ast.stmt) -> list[Repeated]:
    products = [node for node in ast.walk(statement) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult)]
    return [
        Repeated(statement.lineno, statement.end_lineno or statement.lineno, ast.unparse(side.elts[0]))
        for node in products
        for side in (node.left, node.right)
        if isinstance(side, ast.List) and len(side.elts) == 1
    ]
