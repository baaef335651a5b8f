"""A number that a scheduler is made with, made of that of the rounds of the loop around the one that steps it."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.calls.calls_of_functions import calls_of
from gradscope.frames.syntax_trees import innermost, last_name, parsed

_ARGUMENTS = {
    "StepLR": ("step_size", 1),
    "MultiStepLR": ("milestones", 1),
    "CosineAnnealingLR": ("T_max", 1),
    "PolynomialLR": ("total_iters", 1),
    "LinearLR": ("total_iters", 3),
}
"""Of schedulers: the argument that counts their steps, by name and by place."""
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_CODE = (ast.FunctionDef, ast.AsyncFunctionDef)
_MANY = 10_000.0
"""What stands for the number of rounds where the part of it is computed."""
_ROUNDS = ("int", "round", "floor", "ceil", "float")


class CountAround(NamedTuple):
    """Such a number."""

    source: str
    """``step_size=epochs // 2``."""
    part: float
    """How many rounds of the loop each of its rounds is, as the text has it: 0.5."""
    line: int
    """The loop around."""


def count_around(text: str, made: int, stepped: int, scheduler: str) -> CountAround | None:
    """The number, and the loop that it counts; None where the text does not show that.

    The scheduler is stepped in an inner loop, under no condition and without an argument; the outer one goes through
    ``range`` of the name of which the number is made, and of nothing else.

    Args:
        text: Source of the file.
        made: The line that makes the scheduler.
        stepped: The line that calls its ``step``.
        scheduler: Its class.
    """
    tree = parsed(text)
    value = None if tree is None else _argument(tree, made, scheduler)
    if tree is None or value is None or not _is_plain_step(tree, stepped):
        return None
    for loop in _outer_loops(text, tree, stepped):
        name = _counted(loop)
        part = _part(value, name) / _MANY if name and not loop.lineno <= made <= (loop.end_lineno or 0) else 0.0
        if part > 0:
            return CountAround(f"{_ARGUMENTS[scheduler][0]}={ast.unparse(value)}", part, loop.lineno)
    return None


def _argument(tree: ast.Module, line: int, scheduler: str) -> ast.expr | None:
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and last_name(node.func) == scheduler
        and node.lineno <= line <= (node.end_lineno or 0)
    ]
    if len(calls) != 1 or scheduler not in _ARGUMENTS:
        return None
    name, position = _ARGUMENTS[scheduler]
    given = [one.value for one in calls[0].keywords if one.arg == name] + calls[0].args[position : position + 1]
    return given[0] if given else None


def _is_plain_step(tree: ast.Module, line: int) -> bool:
    """Whether a line does nothing but call ``step()``, right in the body of a loop, or of what runs under ``with``."""
    loop = innermost(tree, line, *_LOOPS)
    inside = [] if loop is None else [node for node in ast.walk(loop) if isinstance(node, ast.Expr)]
    steps = [node.value for node in inside if node.lineno <= line <= (node.end_lineno or 0)]
    is_step = any(isinstance(one, ast.Call) and last_name(one.func) == "step" and not one.args for one in steps)
    conditions = innermost(tree, line, ast.If, ast.Try)
    return is_step and loop is not None and (conditions is None or conditions.lineno < loop.lineno)


def _outer_loops(text: str, tree: ast.Module, line: int) -> list[ast.stmt]:
    """The loops around the innermost one at a line, in its function; where there is none, around the call of that."""
    function = innermost(tree, line, *_CODE)
    found = _around(tree, line)[1:]
    if found or not isinstance(function, _CODE):
        return found
    return [loop for call in calls_of(text, function.name) for loop in _around(tree, call.line)]


def _around(tree: ast.Module, line: int) -> list[ast.stmt]:
    """The loops around a line in its own function, the innermost first."""
    function = innermost(tree, line, *_CODE)
    start = function.lineno if function is not None else 0
    loops = [
        node
        for node in ast.walk(tree)
        if isinstance(node, _LOOPS) and start < node.lineno < line <= (node.end_lineno or 0)
    ]
    return sorted(loops, key=lambda node: -node.lineno)


def _counted(loop: ast.stmt) -> str:
    """The name behind the end of the ``range`` that a loop goes through, with a bar around it too; empty for none."""
    over = loop.iter if isinstance(loop, ast.For) else None
    ranges = [
        node
        for node in (ast.walk(over) if over is not None else ())
        if isinstance(node, ast.Call) and last_name(node.func) in ("range", "trange") and node.args
    ]
    if len(ranges) != 1:
        return ""
    end = ranges[0].args[min(1, len(ranges[0].args) - 1)]
    parts = {node.value for node in ast.walk(end) if isinstance(node, (ast.Attribute, ast.Subscript))}
    names = {name for node in ast.walk(end) if node not in parts and (name := _name(node))}
    return names.pop() if len(names) == 1 else ""


def _name(node: ast.AST) -> str:
    """What a name, an attribute, or an item with a key is called: ``epochs`` of ``self.epochs``, of ``c["epochs"]``."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        return node.slice.value
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _part(value: ast.expr, name: str) -> float:
    """What an expression gives for many rounds; 0 where anything else than their number and constants is in it."""
    if isinstance(value, (ast.List, ast.Tuple)):
        parts = [_part(one, name) for one in value.elts]
        return max(parts) if parts and all(parts) else 0.0
    if isinstance(value, ast.Constant):
        return float(value.value) if isinstance(value.value, (int, float)) else 0.0
    if isinstance(value, ast.Call) and len(value.args) == 1 and last_name(value.func) in _ROUNDS:
        return _part(value.args[0], name)
    if isinstance(value, ast.BinOp):
        left, right = _part(value.left, name), _part(value.right, name)
        return _computed(value.op, left, right) if left and right else 0.0
    return _MANY if _name(value) == name else 0.0


def _computed(by: ast.operator, left: float, right: float) -> float:
    if isinstance(by, (ast.Div, ast.FloorDiv)):
        return left / right
    if isinstance(by, ast.Mult):
        return left * right
    return left + right if isinstance(by, ast.Add) else left - right if isinstance(by, ast.Sub) else 0.0
