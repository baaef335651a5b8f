"""Statements whose one call gives a new tensor that nothing takes: ``hidden.detach()``."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import parsed

_GIVES = frozenset(("detach", "clamp", "clip", "masked_fill", "nan_to_num", "float", "double", "half", "bfloat16"))
_REPEATS = (ast.For, ast.While, ast.FunctionDef, ast.AsyncFunctionDef)


def dropped_results(text: str) -> dict[tuple[int, int], str]:
    """First and last line of each, in a loop or a function, and what it calls the method on.

    Not at the top level: there somebody may look at what an expression gives, as a page or a notebook shows it.
    """
    tree = parsed(text)
    found: dict[tuple[int, int], str] = {}
    for around in ast.walk(tree) if tree is not None else ():
        for node in ast.walk(around) if isinstance(around, _REPEATS) else ():
            method = node.value.func if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
            if isinstance(node, ast.Expr) and isinstance(method, ast.Attribute) and method.attr in _GIVES:
                found[node.lineno, node.end_lineno or node.lineno] = ast.unparse(method.value)
    return found


def dropped_call(text: str, line: int, method: str) -> tuple[str, int, int] | None:
    """What a statement at a line calls a method on, which is nothing but that call; with its first and last line."""
    tree = parsed(text)
    for node in ast.walk(tree) if tree is not None else ():
        called = node.value.func if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
        if isinstance(node, ast.Expr) and isinstance(called, ast.Attribute) and called.attr == method:
            end = node.end_lineno or node.lineno
            if node.lineno <= line <= end:
                return ast.unparse(called.value), node.lineno, end
    return None
