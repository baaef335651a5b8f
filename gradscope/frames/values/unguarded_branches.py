"""Calls of ``torch.where`` that choose by a value between what is finite for it and what is not.

``torch.where(x > 20, x, torch.log1p(torch.exp(x)))``: the branch is computed for all values, and its derivative too,
which is infinite for some of those that are not taken: 0 * inf is NaN.
"""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed

_TOO_LARGE = frozenset(("exp", "expm1", "exp2", "cosh", "sinh"))
_TOO_SMALL = frozenset(("log", "log2", "log10", "sqrt", "rsqrt", "reciprocal"))


class UnguardedBranch(NamedTuple):
    """One such call."""

    line: int
    function: str
    """What is not finite for all values: ``exp``."""
    value: str
    """What it is given, by which the condition chooses."""


def unguarded_branches(text: str) -> list[UnguardedBranch]:
    """All of a file."""
    tree = parsed(text) if "where(" in text else None
    found: list[UnguardedBranch] = []
    for call in ast.walk(tree) if tree is not None else ():
        if isinstance(call, ast.Call) and last_name(call.func) == "where" and len(call.args) == 3:
            found += _of_call(call)
    return found


def _of_call(call: ast.Call) -> list[UnguardedBranch]:
    condition, taken, other = call.args
    if not isinstance(condition, ast.Compare) or len(condition.ops) != 1:
        return []
    left, right = ast.unparse(condition.left), ast.unparse(condition.comparators[0])
    is_larger = isinstance(condition.ops[0], ast.Gt | ast.GtE)
    if not is_larger and not isinstance(condition.ops[0], ast.Lt | ast.LtE):
        return []
    found: list[UnguardedBranch] = []
    for value, is_above in ((left, is_larger), (right, not is_larger)):
        for branch, for_large in ((taken, is_above), (other, not is_above)):
            unsafe = _TOO_SMALL if for_large else _TOO_LARGE
            found += [UnguardedBranch(call.lineno, name, value) for name in _given(branch, value, unsafe)]
    return found


def _given(branch: ast.expr, value: str, functions: frozenset[str]) -> list[str]:
    """The functions of some that are given a value as it is, in an expression."""
    found: list[str] = []
    for node in ast.walk(branch):
        if isinstance(node, ast.Call) and last_name(node.func) in functions:
            given = [*node.args[:1], *([node.func.value] if isinstance(node.func, ast.Attribute) else [])]
            found += [last_name(node.func) for one in given if ast.unparse(one) == value]
    return found
