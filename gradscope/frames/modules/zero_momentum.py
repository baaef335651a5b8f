"""Where a file gives batch norms a momentum of zero: what its text tells."""

from __future__ import annotations

import ast
import re
from functools import lru_cache

from gradscope.frames.syntax_trees import innermost, last_name, parsed

_FREEZES = re.compile(r"freez|froz|(^|_)fix(ed|_|$)|(^|_)lock", re.IGNORECASE)


def is_to_freeze(text: str, line: int) -> bool:
    """Whether the function around a line says by its name that it is there to freeze something."""
    tree = parsed(text)
    function = innermost(tree, line, ast.FunctionDef) if tree is not None else None
    return isinstance(function, ast.FunctionDef) and _FREEZES.search(function.name) is not None


@lru_cache(maxsize=16)
def zero_momentum(text: str) -> list[tuple[int, int]]:
    """First and last lines of ``norm.momentum = 0``, and of norms that are made with it."""
    tree = parsed(text) if "momentum" in text else None
    return [(node.lineno, node.end_lineno or node.lineno) for node in (_settings(tree) if tree is not None else ())]


def _settings(tree: ast.Module) -> list[ast.stmt | ast.expr]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt | ast.expr) and (_is_assignment(node) or _is_made_so(node) or _is_setattr(node))
    ]


def _is_assignment(node: ast.AST) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else ()
    is_momentum = any(isinstance(one, ast.Attribute) and one.attr == "momentum" for one in targets)
    return is_momentum and isinstance(node, ast.Assign) and _is_zero(node.value)


def _is_made_so(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or "Norm" not in last_name(node.func):
        return False
    return any(one.arg == "momentum" and _is_zero(one.value) for one in node.keywords)


def _is_setattr(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or last_name(node.func) != "setattr" or len(node.args) != 3:
        return False
    name, value = node.args[1:]
    return isinstance(name, ast.Constant) and name.value == "momentum" and _is_zero(value)


def _is_zero(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and type(value.value) in (int, float) and value.value == 0
