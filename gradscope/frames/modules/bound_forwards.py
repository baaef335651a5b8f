"""Where a text gives an object a function that goes on with the module that it was made for, copied or not.

``module.forward = new_forward`` (a closure over the module), ``self.act = lambda x: x * self.gain``:
``copy.deepcopy`` copies a function by reference.
"""

from __future__ import annotations

import ast
from functools import lru_cache

from gradscope.frames.syntax_trees import parsed


@lru_cache(maxsize=16)
def bound_forwards(text: str) -> tuple[tuple[int, int], ...]:
    """First and last line of each such assignment, in order."""
    tree = parsed(text)
    return tuple(
        sorted(
            (node.lineno, node.end_lineno or node.lineno)
            for node in (ast.walk(tree) if tree is not None else ())
            if isinstance(node, ast.Assign)
            and any(isinstance(target, ast.Attribute) and _is_bound(target, node.value) for target in node.targets)
        )
    )


def _is_bound(target: ast.Attribute, value: ast.expr) -> bool:
    if target.attr == "forward":
        return isinstance(value, ast.Name | ast.Lambda)
    return isinstance(value, ast.Lambda) and any(
        isinstance(one, ast.Name) and one.id == "self" for one in ast.walk(value)
    )
