"""Where a function keeps what mode a module is in, after it has set evaluation mode: what it puts back later is that.

``net.eval(); was = net.training``, ``mode = net.eval().training``.
"""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import dotted_name, innermost, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_MODE = "training"


def mode_read_after(text: str, line: int) -> tuple[int, int] | None:
    """First and last line of the statement that keeps the mode too late, and whose name decides on a later ``train()``.

    Args:
        text: Source of the file.
        line: Where the function calls ``eval()``.
    """
    tree = parsed(text)
    around = innermost(tree, line, *_FUNCTIONS) if tree is not None else None
    if tree is None or around is None:
        return None
    kept = [node for node in ast.walk(around) if isinstance(node, ast.Assign) and _reads_mode(node.value)]
    if any(node.lineno < line for node in kept):
        return None  # (it keeps it before as well)
    for node in kept:
        names = {dotted_name(target) for target in node.targets} - {""}
        is_after = node.lineno > line or any(_reads_result(part) for part in ast.walk(node.value))
        if is_after and any(_puts_back(part, names) for part in ast.walk(tree)):
            return node.lineno, node.end_lineno or node.lineno
    return None


def _reads_mode(value: ast.expr) -> bool:
    return any(
        isinstance(part, ast.Attribute) and part.attr == _MODE and isinstance(part.ctx, ast.Load)
        for part in ast.walk(value)
    )


def _reads_result(part: ast.AST) -> bool:
    """``net.eval().training``."""
    called = part.value if isinstance(part, ast.Attribute) and part.attr == _MODE else None
    is_method = isinstance(called, ast.Call) and isinstance(called.func, ast.Attribute)
    return is_method and called.func.attr in ("eval", "train")  # type: ignore[union-attr]


def _puts_back(part: ast.AST, names: set[str]) -> bool:
    """``net.train(was)``, ``if was: net.train()``."""
    if isinstance(part, ast.If):
        calls = (one for block in part.body for one in ast.walk(block) if isinstance(one, ast.Call))
        return _is_one_of(part.test, names) and any(_trains(call) for call in calls)
    given = [*part.args, *(one.value for one in part.keywords)] if isinstance(part, ast.Call) and _trains(part) else []
    return any(_is_one_of(one, names) for one in given)


def _trains(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr == "train"


def _is_one_of(node: ast.expr, names: set[str]) -> bool:
    return dotted_name(node) in names
