"""Names that the statements of a file store: by assignment, and as what loops give their items."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import lru_cache

from gradscope.frames.syntax_trees import parsed


@lru_cache(maxsize=16)
def loop_variables(text: str) -> frozenset[tuple[int, str]]:
    """Line and name of each that a loop or a comprehension gives its items: nothing new is stored there."""
    tree = parsed(text)
    return _names(
        node.target
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension))
    )


@lru_cache(maxsize=16)
def assigned_names(text: str) -> frozenset[tuple[int, str]]:
    """Line and name of each that an assignment stores; of an attribute all of it: ``self.state``."""
    tree = parsed(text)
    return _names(
        target
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.Assign)
        for target in node.targets
    )


def _names(targets: Iterable[ast.expr]) -> frozenset[tuple[int, str]]:
    stored = (
        node
        for target in targets
        for node in ast.walk(target)
        if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store)
    )
    return frozenset((node.lineno, ast.unparse(node)) for node in stored)
