"""Whether the two halves of a custom Function, as their source has them, average in one of them alone."""

from __future__ import annotations

import ast

_DIVIDES = ("mean", "div", "true_divide", "numel", "reciprocal", "nelement", "average", "std", "var")


def averages_alone(forward: ast.AST, backward: ast.AST) -> ast.stmt | None:
    """The statement of backward that takes a mean, where forward neither takes one nor divides; None for others."""
    if _divides(forward):
        return None
    for statement in _simple(backward):
        if any(isinstance(node, ast.Call) and _called(node) == "mean" for node in ast.walk(statement)):
            return statement
    return None


def averaged_alone(forward: ast.AST, backward: ast.AST) -> ast.stmt | None:
    """The return of backward, where forward returns a mean and nothing divides: neither there nor in forward else."""
    returned = [one.value for one in ast.walk(forward) if isinstance(one, ast.Return) and one.value is not None]
    if len(returned) != 1 or not isinstance(returned[0], ast.Call) or _called(returned[0]) != "mean":
        return None
    others = [node for node in ast.walk(forward) if node is not returned[0] and node is not returned[0].func]
    if any(_is_division(node) for node in others) or _divides(backward):
        return None
    returns = [statement for statement in _simple(backward) if isinstance(statement, ast.Return)]
    return returns[-1] if returns else None


def _simple(definition: ast.AST) -> list[ast.stmt]:
    return [
        node for node in ast.walk(definition) if isinstance(node, ast.Assign | ast.AugAssign | ast.Return | ast.Expr)
    ]


def _divides(definition: ast.AST) -> bool:
    return any(map(_is_division, ast.walk(definition)))


def _is_division(node: ast.AST) -> bool:
    if isinstance(node, ast.Div | ast.FloorDiv | ast.Pow):
        return True
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name.strip("_") in _DIVIDES


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""
