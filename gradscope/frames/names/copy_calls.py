"""What a line gives ``copy.copy``, and the name that the copy gets: what the text of a file tells."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import innermost, last_name, parsed


class ShallowCopy(NamedTuple):
    """One call."""

    of: str
    """What is copied, as the source has it."""
    names: tuple[str, ...]
    """What the copy is assigned to, there or where the function that returns it was called; none where it is handed
    on, or kept in a list."""


def shallow_copy_at(text: str, line: int) -> ShallowCopy | None:
    """The one call of ``copy.copy`` on a line; None for none, or several."""
    tree = parsed(text)
    nodes = [node for node in ast.walk(tree) if getattr(node, "lineno", 0) == line] if tree is not None else []
    calls = [node for node in nodes if isinstance(node, ast.Call) and _copies(node)]
    if tree is None or len(calls) != 1:
        return None
    pairs = (pair for node in nodes if isinstance(node, ast.Assign) for pair in _pairs(node))
    target = next((target for target, value in pairs if value is calls[0]), None)
    names = [ast.unparse(target)] if target is not None else []
    return ShallowCopy(ast.unparse(calls[0].args[0]), (*names, *_returned_as(tree, calls[0], target)))


def _returned_as(tree: ast.Module, call: ast.Call, target: ast.expr | None) -> Iterator[str]:
    """What is assigned the result of the function that returns a copy."""
    function = innermost(tree, call.lineno, ast.FunctionDef)
    if not isinstance(function, ast.FunctionDef):
        return
    name = target.id if isinstance(target, ast.Name) else ""
    returned = [node.value for node in ast.walk(function) if isinstance(node, ast.Return)]
    if not any(one is call or (name and isinstance(one, ast.Name) and one.id == name) for one in returned):
        return
    for node in ast.walk(tree):
        for to, value in _pairs(node) if isinstance(node, ast.Assign) else ():
            if isinstance(value, ast.Call) and last_name(value.func) == function.name:
                yield ast.unparse(to)


def _pairs(node: ast.Assign) -> list[tuple[ast.expr, ast.expr]]:
    target = node.targets[0]
    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
        return list(zip(target.elts, node.value.elts, strict=False))
    return [(target, node.value)]


def _copies(call: ast.Call) -> bool:
    return ast.unparse(call.func) in ("copy.copy", "copy") and len(call.args) == 1
