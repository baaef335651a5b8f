"""The condition under which a function sets ``.grad``: ``if p.grad is not None: return`` before it, or around it."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import innermost, parsed

_GRADS = ("grad", "_grad")
_LEAVES = (ast.Return, ast.Continue, ast.Break)


def guard_of_gradient(text: str, line: int) -> tuple[int, int] | None:
    """First and last line of the head of the condition on ``.grad``, with what leaves; None where there is not one."""
    tree = parsed(text)
    around = innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef) if tree is not None else None
    found = []
    for node in ast.walk(around or tree) if tree is not None else ():
        if not isinstance(node, ast.If) or not _asks_for_gradient(node.test):
            continue
        end = node.end_lineno or node.lineno
        if node.lineno <= line <= end:
            found.append((node.lineno, node.test.end_lineno or node.lineno))
        elif end < line and isinstance(node.body[-1], _LEAVES) and not node.orelse:
            found.append((node.lineno, end))
    return found[0] if len(found) == 1 else None


def _asks_for_gradient(test: ast.expr) -> bool:
    """Whether a condition is whether there is a gradient: ``p.grad is None``, ``p.grad is not None``, ``p.grad``."""
    return any(isinstance(node, ast.Attribute) and node.attr in _GRADS for node in ast.walk(test))
