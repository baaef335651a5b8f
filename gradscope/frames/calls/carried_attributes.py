"""Assignments that give an attribute what a call makes of it: ``y, self.h = self.model(x, self.h)``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache

from gradscope.frames.syntax_trees import parsed


@lru_cache(maxsize=16)
def carried_attributes(text: str) -> tuple[tuple[str, int, int], ...]:
    """All of a file: the attribute's last name, and the first and last line of the statement."""
    tree = parsed(text)
    statements = (node for node in ast.walk(tree) if isinstance(node, ast.Assign)) if tree is not None else ()
    return tuple(
        (target.attr, node.lineno, node.end_lineno or node.lineno)
        for node in statements
        for target in _attributes(node)
        if any(_is_made_of(call, ast.unparse(target)) for call in ast.walk(node.value) if isinstance(call, ast.Call))
    )


def _attributes(statement: ast.Assign) -> Iterator[ast.Attribute]:
    for target in statement.targets:
        for one in target.elts if isinstance(target, ast.Tuple | ast.List) else [target]:
            if isinstance(one, ast.Attribute):
                yield one


def _is_made_of(call: ast.Call, name: str) -> bool:
    """Whether a call is given what has a name, as it is."""
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    return any(isinstance(one, ast.Attribute) and ast.unparse(one) == name for one in given)
