"""The ``with`` around a line, by what it opens."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import innermost, parsed


def with_around(text: str, line: int, opens: str) -> int:
    """The line of the innermost ``with`` around another one, in the same function, that opens something; 0 for none.

    Args:
        text: The file's.
        line: In the ``with``'s body.
        opens: The last part of the name of what is called: ``autocast``.
    """
    tree = parsed(text)
    if tree is None:
        return 0
    function = innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef)
    first = function.lineno if function is not None else 0
    around = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.With | ast.AsyncWith)
        and first <= node.lineno
        and node.body[0].lineno <= line <= (node.body[-1].end_lineno or 0)
        and any(_called(item.context_expr) == opens for item in node.items)
    ]
    return max(around, default=0)


def _called(opened: ast.expr) -> str:
    called = opened.func if isinstance(opened, ast.Call) else None
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
