"""Whether a condition of a text comes out otherwise for one value of a name than for another.

``self.turn % 2`` of 1 and of 4, ``self.training and self.calls == 0``.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

_Value = int | float | bool | str
_OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Mod: operator.mod,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
    ast.BitAnd: operator.and_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def outcome(test: ast.expr, is_it: Callable[[ast.AST], bool], value: _Value) -> _Value | None:
    """What a condition gives with a value for what it reads; None where it reads anything else.

    Args:
        test: The condition, or a part of it.
        is_it: Tells the name.
        value: Of the name.
    """
    if is_it(test):
        return value
    if isinstance(test, ast.Constant):
        return test.value if isinstance(test.value, int | float | str) else None
    if isinstance(test, ast.UnaryOp):
        given = outcome(test.operand, is_it, value)
        if given is None or not isinstance(test.op, ast.Not | ast.USub) or isinstance(given, str):
            return None
        return not given if isinstance(test.op, ast.Not) else -given
    pair: tuple[ast.expr, ast.AST, ast.expr] | None = None
    if isinstance(test, ast.BinOp):
        pair = test.left, test.op, test.right
    elif isinstance(test, ast.Compare) and len(test.ops) == 1:
        pair = test.left, test.ops[0], test.comparators[0]
    if pair is None or type(pair[1]) not in _OPERATORS:
        return None
    left, right = (outcome(one, is_it, value) for one in (pair[0], pair[2]))
    if left is None or right is None:
        return None
    try:
        found: _Value = _OPERATORS[type(pair[1])](left, right)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return found


def decides_otherwise(test: ast.expr, is_it: Callable[[ast.AST], bool], first: _Value, again: _Value) -> bool:
    """Whether a condition comes out otherwise; of parts that are joined, by ``and`` or ``or``, whether one does."""
    if isinstance(test, ast.BoolOp):
        return any(decides_otherwise(one, is_it, first, again) for one in test.values)
    found = [outcome(test, is_it, value) for value in (first, again)]
    return None not in found and bool(found[0]) != bool(found[1])
