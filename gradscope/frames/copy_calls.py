"""What a line gives ``copy.copy``, and the name that the copy gets: what the text of a file tells."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import parsed


class ShallowCopy(NamedTuple):
    """One call."""

    of: str
    """What is copied, as the source has it."""
    name: str
    """What the copy is assigned to; empty where it is handed on, or kept in a list."""


def shallow_copy_at(text: str, line: int) -> ShallowCopy | None:
    """The one call of ``copy.copy`` on a line; None for none, or several."""
    tree = parsed(text)
    nodes = [node for node in ast.walk(tree) if getattr(node, "lineno", 0) == line] if tree is not None else []
    calls = [node for node in nodes if isinstance(node, ast.Call) and _copies(node)]
    if len(calls) != 1:
        return None
    pairs = (pair for node in nodes if isinstance(node, ast.Assign) for pair in _pairs(node))
    target = next((name for name, value in pairs if value is calls[0]), None)
    return ShallowCopy(ast.unparse(calls[0].args[0]), ast.unparse(target) if target is not None else "")


def _pairs(node: ast.Assign) -> list[tuple[ast.expr, ast.expr]]:
    target = node.targets[0]
    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
        return list(zip(target.elts, node.value.elts, strict=False))
    return [(target, node.value)]


def _copies(call: ast.Call) -> bool:
    return ast.unparse(call.func) in ("copy.copy", "copy") and len(call.args) == 1
