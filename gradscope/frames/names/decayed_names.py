"""Statements that make up a running value under a name of a block: ``v = mu * v + g``, ``s = s + g**2``."""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.syntax_trees import parsed

_ADDS = ("add", "sub", "addcmul", "addcdiv")
_SCALES = ("mul", "div")


class DecayedName(NamedTuple):
    """One such statement."""

    name: str
    is_scaled: bool
    """Whether the old value counts by a factor; else it is added to as it is."""


@lru_cache(maxsize=16)
def decayed_names(text: str) -> dict[int, DecayedName]:
    """For the first line of each such statement of a file the name."""
    tree, found = parsed(text), dict[int, DecayedName]()
    for node in ast.walk(tree) if tree is not None else ():
        target = node.targets[0] if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
        if isinstance(node, ast.Assign) and isinstance(target, ast.Name):
            terms = _terms(node.value)
            if any(_is_scaled(term, target.id) for term in terms) or _is_moved(node.value, target.id):
                found[node.lineno] = DecayedName(target.id, is_scaled=True)
            elif len(terms) > 1 and any(_is_name(term, target.id) for term in terms):
                found[node.lineno] = DecayedName(target.id, is_scaled=False)
    return found


def _terms(value: ast.expr) -> list[ast.expr]:
    """What an expression adds up; one alone is none."""
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add | ast.Sub):
        return [*(_terms(value.left) or [value.left]), *(_terms(value.right) or [value.right])]
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in _ADDS:
        return [*(_terms(value.func.value) or [value.func.value]), *value.args]
    return []


def _is_scaled(term: ast.expr, name: str) -> bool:
    if isinstance(term, ast.BinOp) and isinstance(term.op, ast.Mult):
        return _is_name(term.left, name) or _is_name(term.right, name)
    called = term.func if isinstance(term, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr in _SCALES and _is_name(called.value, name)


def _is_moved(value: ast.expr, name: str) -> bool:
    """Whether an expression is ``v.lerp(g, weight)`` or ``torch.lerp(v, g, weight)``."""
    called = value.func if isinstance(value, ast.Call) else None
    if not isinstance(value, ast.Call) or not isinstance(called, ast.Attribute) or called.attr != "lerp":
        return False
    return any(_is_name(one, name) for one in (called.value, *value.args[:1]))


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
