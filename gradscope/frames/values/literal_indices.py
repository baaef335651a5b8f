"""Indices that a text gives as plain numbers and slices: ``x[:, 1:]``."""

from __future__ import annotations

import ast
from functools import lru_cache
from types import EllipsisType

from gradscope.frames.syntax_trees import parsed

Index = int | slice | EllipsisType


@lru_cache(maxsize=256)
def literal_indices(text: str) -> tuple[Index, ...] | None:
    """The indices of the subscript that a text is; None where they are not all written there as numbers."""
    tree = parsed(text)
    statement = tree.body[0] if tree is not None and len(tree.body) == 1 else None
    subscript = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(subscript, ast.Subscript):
        return None
    parts = subscript.slice.elts if isinstance(subscript.slice, ast.Tuple) else [subscript.slice]
    found = [_index(part) for part in parts]
    known = tuple(one for one in found if one is not None)
    return known if len(known) == len(found) and known.count(...) < 2 else None


def _index(part: ast.expr) -> Index | None:
    if isinstance(part, ast.Slice):
        bounds = [None if one is None else _number(one) for one in (part.lower, part.upper, part.step)]
        is_known = all(
            one is None or at is not None for one, at in zip((part.lower, part.upper, part.step), bounds, strict=True)
        )
        return slice(*bounds) if is_known else None
    if isinstance(part, ast.Constant) and part.value is ...:
        return ...
    return _number(part)


def _number(part: ast.expr) -> int | None:
    try:
        value = ast.literal_eval(part)
    except ValueError:
        return None
    return value if type(value) is int else None
