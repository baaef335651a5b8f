"""Statements that compute a new value from a name and give it that name: ``p = p - lr * p.grad``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
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
    """Those of a ``for`` loop's own variable that the loop's body does not read any more: nobody has the result.

    Also of a function's argument that the function does not read any more, where it has no loop around the statement.
    """
    tree, found = parsed(text), dict[int, str]()
    for around in ast.walk(tree) if tree is not None else ():
        if isinstance(around, ast.For):
            names = {node.id for node in ast.walk(around.target) if isinstance(node, ast.Name)}
        elif isinstance(around, ast.FunctionDef):
            names = {argument.arg for argument in (*around.args.posonlyargs, *around.args.args)}
        else:
            continue
        for block in _blocks(around):
            for position, statement in enumerate(block):
                name = _rebound(statement)
                if name in names and not any(_reads(later, name) for later in _after(around, block, position)):
                    found[statement.lineno] = name
    return found


def _blocks(around: ast.For | ast.FunctionDef) -> Iterator[list[ast.stmt]]:
    """The body, and what stands in a ``with`` or an ``if`` in it; in a loop the next round may read the name."""
    todo = [around.body]
    while todo:
        block = todo.pop()
        yield block
        for statement in block:
            if isinstance(statement, ast.With | ast.If):
                todo.append(statement.body)


def _after(around: ast.For | ast.FunctionDef, block: list[ast.stmt], position: int) -> Iterator[ast.stmt]:
    """The statements of a body that may run after one of a block in it."""
    place = block[position].lineno, block[position].col_offset
    for node in ast.walk(around):
        if isinstance(node, ast.stmt) and (node.lineno, node.col_offset) > place:
            yield node


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
