"""Statements that divide what a name holds and give it that name: ``loss = loss / n``, ``loss /= n``."""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.blocks.divided_rounds import value_of
from gradscope.frames.syntax_trees import innermost, parsed

_DIVIDES = ("div", "div_", "true_divide", "divide")
_LOOPS = (ast.For, ast.AsyncFor)


class RescaledName(NamedTuple):
    """One such statement."""

    name: str
    divisor: ast.expr


@lru_cache(maxsize=16)
def rescaled_names(text: str) -> dict[int, RescaledName]:
    """For the first line of each such statement of a file the name, and what it is divided by."""
    tree, found = parsed(text), dict[int, RescaledName]()
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Div) and isinstance(node.target, ast.Name):
            found[node.lineno] = RescaledName(node.target.id, node.value)
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name, divisor = node.targets[0].id, _divisor(node.value, node.targets[0].id)
            if divisor is not None:
                found[node.lineno] = RescaledName(name, divisor)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            if isinstance(called, ast.Attribute) and called.attr == "div_" and isinstance(called.value, ast.Name):
                divisor = _divisor(node.value, called.value.id)
                if divisor is not None:
                    found[node.lineno] = RescaledName(called.value.id, divisor)
    return found


def counts_passes(text: str, divided: int, step: int, passes: int) -> str:
    """What divides a name, as it is written, where it is the number of passes that a step applies; else empty.

    Args:
        text: Source of the file.
        divided: The line that divides.
        step: The line that makes the step.
        passes: How many the step applied.
    """
    tree, found = parsed(text), rescaled_names(text).get(divided)
    if tree is None or found is None:
        return ""
    written = ast.unparse(found.divisor)
    branch, loop = innermost(tree, step, ast.If), innermost(tree, divided, *_LOOPS)
    is_asked = isinstance(branch, ast.If) and written in _parts(branch.test)
    is_loops = isinstance(loop, _LOOPS) and not _has(loop, step) and written in _lengths(loop.iter)
    return written if is_asked or is_loops or value_of(tree, found.divisor, divided) == passes else ""


def _divisor(value: ast.expr, name: str) -> ast.expr | None:
    if isinstance(value, ast.BinOp):
        return value.right if isinstance(value.op, ast.Div) and _is_name(value.left, name) else None
    if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Attribute) or value.func.attr not in _DIVIDES:
        return None
    taken = [value.func.value, *value.args]
    if _is_name(taken[0], name) and len(taken) == 2:
        return taken[1]
    return taken[2] if len(taken) == 3 and _is_name(taken[1], name) else None  # (torch.div(loss, n))


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _has(loop: ast.stmt, line: int) -> bool:
    return loop.lineno <= line <= (loop.end_lineno or loop.lineno)


def _parts(value: ast.expr) -> set[str]:
    return {ast.unparse(one) for one in ast.walk(value) if isinstance(one, ast.expr)}


def _lengths(value: ast.expr) -> set[str]:
    """How the number of a loop's rounds is written: ``n`` of ``range(n)``, ``len(parts)`` of ``enumerate(parts)``."""
    is_range = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "range"
    if isinstance(value, ast.Call) and is_range:
        return {ast.unparse(value.args[0])} if len(value.args) == 1 else set()
    return {f"len({part})" for part in _parts(value)}
