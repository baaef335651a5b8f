"""Statements that compute a new value from a name and give it that name: ``p = p - lr * p.grad``."""

from __future__ import annotations

import ast
from functools import lru_cache

from gradscope.frames.syntax_trees import parsed


@lru_cache(maxsize=16)
def rebound_names(text: str) -> dict[int, str]:
    """For the first line of each such statement of a file the name that it reads in arithmetic and gives the result."""
    tree = parsed(text)
    statements = (node for node in ast.walk(tree) if isinstance(node, ast.Assign)) if tree is not None else ()
    return {node.lineno: name for node in statements if (name := _rebound(node))}


@lru_cache(maxsize=16)
def lost_in_loops(text: str) -> dict[int, str]:
    """Those of a ``for`` loop's own variable that the loop's body does not read any more: nobody has the result."""
    tree, found = parsed(text), dict[int, str]()
    for loop in ast.walk(tree) if tree is not None else ():
        if not isinstance(loop, ast.For):
            continue
        targets = {node.id for node in ast.walk(loop.target) if isinstance(node, ast.Name)}
        for position, statement in enumerate(loop.body):
            name = _rebound(statement)
            if name in targets and not any(_reads(later, name) for later in loop.body[position + 1 :]):
                found[statement.lineno] = name
    return found


def _rebound(statement: ast.AST) -> str:
    if not isinstance(statement, ast.Assign) or len(statement.targets) > 1:
        return ""
    target, value = statement.targets[0], statement.value
    if not isinstance(target, ast.Name) or not isinstance(value, (ast.BinOp, ast.Call)):
        return ""
    return target.id if _reads(value, target.id) else ""


def _reads(tree: ast.AST, name: str) -> bool:
    return any(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load) for node in ast.walk(tree)
    )
