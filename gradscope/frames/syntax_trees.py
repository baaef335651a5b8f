"""The syntax tree of a file's text, parsed once for all who look at it."""

from __future__ import annotations

import ast
from functools import lru_cache

TRIES = 8


@lru_cache(maxsize=16)
def parsed(text: str) -> ast.Module | None:
    """The tree, which nobody changes; None where the text is no Python (a notebook, a file that changed meanwhile)."""
    for _ in range(TRIES):
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
        except SystemError:  # of CPython up to 3.11 where two threads parse at once; the text has nothing to do with it
            continue
    return None


def last_name(node: ast.expr | None) -> str:
    """The last name of a dotted one: ``rows`` of ``self.rows``; empty for anything else."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def dotted_name(node: ast.expr) -> str:
    """The source of a name or of an attribute: ``self.rows``; empty for anything else."""
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def innermost(tree: ast.Module, line: int, *kinds: type[ast.stmt]) -> ast.stmt | None:
    """The innermost statement of some kinds around a line; None where there is none."""
    around = (
        node for node in ast.walk(tree) if isinstance(node, kinds) and node.lineno <= line <= (node.end_lineno or 0)
    )
    return max(around, key=lambda node: node.lineno, default=None)
