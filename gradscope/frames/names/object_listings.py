"""Names of lists of what the garbage collector knows: what is in them was kept by something else before."""

from __future__ import annotations

import ast
from functools import lru_cache

from gradscope.frames.syntax_trees import last_name, parsed

_LISTINGS = ("get_objects", "get_referrers", "get_referents")


def lists_objects(value: ast.AST) -> bool:
    """Whether an expression goes over ``gc.get_objects()`` or the like."""
    return any(isinstance(node, ast.Call) and last_name(node.func) in _LISTINGS for node in ast.walk(value))


@lru_cache(maxsize=16)
def object_listings(text: str) -> frozenset[str]:
    """The names that a text gives such lists, without the objects that they are attributes of."""
    tree = parsed(text)
    return frozenset(
        last_name(target)
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.Assign) and lists_objects(node.value)
        for target in node.targets
    )
