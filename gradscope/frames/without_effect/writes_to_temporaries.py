"""Statements that are nothing but a write into what they compute themselves: what the text of a file tells."""

from __future__ import annotations

import ast
from functools import lru_cache

from gradscope.frames.syntax_trees import parsed


@lru_cache(maxsize=16)
def temporaries_written(text: str) -> dict[int, str]:
    """By line, the expression that gives the tensor: ``layer.weight`` of ``nn.init.zeros_(layer.weight)``.

    ``x[mask].zero_()``, ``nn.init.zeros_(layer.weight)`` and ``x[mask][0] = 1``. Of each, that the tensor is a new one
    has to be seen.
    """
    tree = parsed(text)
    found: dict[int, str] = {}
    for node in ast.walk(tree) if tree is not None else ():
        written = _written(node)
        if isinstance(node, ast.stmt) and isinstance(written, (ast.Subscript, ast.Attribute, ast.Call)):
            found[node.lineno] = ast.unparse(written)
    return found


def _written(node: ast.AST) -> ast.expr | None:
    if isinstance(node, (ast.Assign, ast.AugAssign)):
        target = node.target if isinstance(node, ast.AugAssign) else node.targets[0]
        is_item = isinstance(target, ast.Subscript) and isinstance(target.value, (ast.Subscript, ast.Attribute))
        is_data = isinstance(target, ast.Attribute) and target.attr == "data"
        return target.value if isinstance(target, (ast.Subscript, ast.Attribute)) and (is_item or is_data) else None
    call = node.value if isinstance(node, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return None
    method = call.func
    if not method.attr.endswith("_") or method.attr.endswith("__"):
        return None
    is_init = (
        isinstance(method.value, (ast.Name, ast.Attribute)) and ast.unparse(method.value).rpartition(".")[2] == "init"
    )
    if is_init:
        return call.args[0] if call.args else None
    return method.value
