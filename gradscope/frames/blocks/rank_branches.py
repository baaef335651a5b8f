"""The ``if`` around a line that lets processes by according to their rank, as the source has it."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import parsed


def rank_branch_around(text: str, line: int) -> int:
    """The line of the innermost ``if`` around a line whose condition reads a rank; 0: there is none."""
    tree = parsed(text)
    found = [
        node.lineno
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.If)
        and node.body[0].lineno <= line <= (node.end_lineno or 0)
        and asks_for_rank(node.test)
    ]
    return max(found, default=0)


def asks_for_rank(condition: ast.expr) -> bool:
    """Whether a condition reads a rank."""
    return any(_names_rank(part) for part in ast.walk(condition))


def _names_rank(part: ast.AST) -> bool:
    name = part.id if isinstance(part, ast.Name) else part.attr if isinstance(part, ast.Attribute) else ""
    return "rank" in name.lower() or name in ("is_main_process", "is_local_main_process", "is_master", "is_main")
