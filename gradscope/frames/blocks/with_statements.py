"""The ``with`` statement around a line that calls something, as the source has it."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import parsed

_WITHS = (ast.With, ast.AsyncWith)


def with_around(text: str, line: int, called: str) -> int:
    """The first line of the innermost ``with`` around a line among whose items a method is called; 0: there is none."""
    tree = parsed(text)
    found = [
        node.lineno
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, _WITHS)
        and node.lineno <= line <= (node.end_lineno or 0)
        and any(_calls(item.context_expr, called) for item in node.items)
    ]
    return max(found, default=0)


def _calls(expression: ast.expr, called: str) -> bool:
    return any(isinstance(part, ast.Attribute) and part.attr == called for part in ast.walk(expression))
