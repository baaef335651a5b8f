"""Statements that ask whether gradients are None, rather than use them: nobody is surprised by the answer."""

from __future__ import annotations

import ast
from typing import Literal

from gradscope.frames.syntax_trees import innermost, parsed

Asks = Literal["checks", "lists", ""]
"""``checks``: whether all or any are (``all(p.grad is None for …)``, an ``assert``); ``lists``: which of several."""

_QUANTIFIERS = ("all", "any", "sum")


def asks_for_none(text: str, line: int) -> Asks:
    """How the statement on a line asks about gradients; empty where it uses them, or asks about one of them.

    Args:
        text: Source of the file.
        line: A line of the statement.
    """
    tree = parsed(text)
    if tree is None or ".grad" not in text:
        return ""
    statement = innermost(tree, line, ast.stmt)
    if statement is None or isinstance(
        statement, (ast.FunctionDef, ast.For, ast.While, ast.With, ast.If, ast.ClassDef)
    ):
        return ""
    nodes = list(ast.walk(statement))
    compared = {
        node.left
        for node in nodes
        if isinstance(node, ast.Compare)
        and isinstance(node.ops[0], (ast.Is, ast.IsNot))
        and isinstance(node.comparators[0], ast.Constant)
        and node.comparators[0].value is None
    }
    gradients = {node for node in nodes if isinstance(node, ast.Attribute) and node.attr == "grad"}
    within = {
        inner
        for node in nodes
        if isinstance(node, (ast.GeneratorExp, ast.ListComp, ast.SetComp))
        for inner in ast.walk(node)
    }
    if not gradients or not gradients <= compared:
        return ""
    if isinstance(statement, ast.Assert):
        return "checks"
    if not gradients <= within:
        return ""
    quantified = any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _QUANTIFIERS
        for node in nodes
    )
    return "checks" if quantified else "lists"
