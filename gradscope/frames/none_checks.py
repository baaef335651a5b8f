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
    if isinstance(statement, ast.If):
        return "lists" if _is_asked_of_each(tree, statement) else ""
    if statement is None or isinstance(statement, (ast.FunctionDef, ast.For, ast.While, ast.With, ast.ClassDef)):
        return ""
    nodes = list(ast.walk(statement))
    gradients, compared = _gradients(nodes)
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


def _gradients(nodes: list[ast.AST]) -> tuple[set[ast.AST], set[ast.AST]]:
    """The gradients that are read among some nodes, and what is compared with None."""
    compared: set[ast.AST] = {
        node.left
        for node in nodes
        if isinstance(node, ast.Compare)
        and isinstance(node.ops[0], (ast.Is, ast.IsNot))
        and isinstance(node.comparators[0], ast.Constant)
        and node.comparators[0].value is None
    }
    return {node for node in nodes if isinstance(node, ast.Attribute) and node.attr == "grad"}, compared


def _is_asked_of_each(tree: ast.AST, statement: ast.If) -> bool:
    """Whether an ``if`` asks it of each item of a loop around it: ``if p.grad is not None``, as optimizers do."""
    gradients, compared = _gradients(list(ast.walk(statement.test)))
    asked = {one.value.id for one in gradients if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name)}
    if not gradients or not gradients <= compared or len(asked) < len(gradients):
        return False
    loops = (node for node in ast.walk(tree) if isinstance(node, ast.For) and statement in ast.walk(node))
    items = {node.id for loop in loops for node in ast.walk(loop.target) if isinstance(node, ast.Name)}
    return asked <= items
