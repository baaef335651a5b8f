"""Whether a text counts backward passes up to a step: ``if (i + 1) % n == 0: step()``, or ``loss / n`` in n rounds."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.frames.blocks.divided_rounds import divisors_at, value_of
from gradscope.frames.syntax_trees import innermost, last_name, parsed

_CODE = (ast.FunctionDef, ast.AsyncFunctionDef)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_CALLERS = 3
"""Functions that are followed from a line to where they are called."""


def are_counted_for(text: str, step: int, passed: int, divided: int, passes: int) -> bool:
    """Whether passes are counted for a step.

    Args:
        text: Source of the file.
        step: The line that makes the step.
        passed: The line that runs backward.
        divided: The line that divides the loss by a number; 0 where none does.
        passes: How many ran before the step.

    A condition does, where it asks for the rest of a count or for a count that has been reached, and stands in the
    same loop as what runs backward, behind it. So does the loss, where it is divided by the number of rounds.
    """
    tree = parsed(text)
    if tree is None:
        return False
    steps, runs = list(_called_at(tree, step)), list(_called_at(tree, passed))
    if _is_asked_behind(tree, steps, runs):
        return True
    rounds = {
        part
        for line in runs
        if isinstance(loop := innermost(tree, line, ast.For), ast.For) and not any(_is_in(loop, one) for one in steps)
        for part in _lengths(loop.iter)
    }
    return bool(divided) and any(
        ast.unparse(one) in rounds or value_of(tree, one, divided) == passes for one in divisors_at(tree, divided)
    )


def _called_at(tree: ast.Module, line: int) -> Iterator[int]:
    """A line, the one line that calls its function, and so on."""
    for _ in range(_CALLERS):
        yield line
        function = innermost(tree, line, *_CODE)
        if not isinstance(function, _CODE):
            return
        called = [
            node.lineno
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and last_name(node.func) == function.name
            and not _is_in(function, node.lineno)
        ]
        if len(called) != 1:
            return
        line = called[0]


def _is_asked_behind(tree: ast.Module, steps: list[int], runs: list[int]) -> bool:
    """Whether a condition decides about a step, behind what runs backward in the same round of a loop."""
    for position, step in enumerate(steps):
        before = [run for run in runs if run < step and _block(tree, run) == _block(tree, step)]
        if before and any(_decides(tree, step, branch, max(before)) for branch in _conditions(tree)):
            return True
        if before and any(_decides(tree, one, branch, 0) for one in steps[:position] for branch in _conditions(tree)):
            return True  # (in a function that the round calls)
    return False


def _block(tree: ast.Module, line: int) -> tuple[ast.stmt | None, ast.stmt | None]:
    """The function and the loop that a line is in; no loop where that is around the function."""
    function, loop = innermost(tree, line, *_CODE), innermost(tree, line, *_LOOPS)
    is_within = function is None or (loop is not None and loop.lineno > function.lineno)
    return function, loop if is_within else None


def _conditions(tree: ast.Module) -> Iterator[ast.If]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.If) and _asks_for_count(tree, node.test))


def _decides(tree: ast.Module, step: int, branch: ast.If, after: int) -> bool:
    end = branch.end_lineno or branch.lineno
    is_around = branch.body[0].lineno <= step <= (branch.body[-1].end_lineno or 0)
    is_left = end < step and isinstance(branch.body[-1], ast.Continue | ast.Return) and not branch.orelse
    is_here = branch.lineno > after and _block(tree, branch.lineno) == _block(tree, step)
    return is_here and (is_around or is_left)


def _asks_for_count(tree: ast.Module, test: ast.expr) -> bool:
    """Whether a condition, or what it was stored as, asks for a rest, or whether a count has come to something."""
    counts = {
        ast.unparse(node.target)
        for node in ast.walk(tree)
        if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add) and isinstance(node.value, ast.Constant)
    }
    names = {ast.unparse(node) for node in ast.walk(test) if isinstance(node, ast.Name | ast.Attribute)}
    stored = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and names.intersection(map(ast.unparse, node.targets))
    )
    for asked in (test, *stored):
        for node in ast.walk(asked):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
                return True
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.GtE | ast.Lt | ast.NotEq):
                compared = {ast.unparse(one) for one in ast.walk(node.left) if isinstance(one, ast.expr)}
                if compared & counts:
                    return True
    return False


def _lengths(value: ast.expr) -> set[str]:
    """How the number of a loop's rounds is written: ``n`` of ``range(n)``, ``len(parts)`` of ``enumerate(parts)``."""
    if isinstance(value, ast.Call) and last_name(value.func) == "range":
        return {ast.unparse(value.args[0])} if len(value.args) == 1 else set()
    return {f"len({ast.unparse(part)})" for part in ast.walk(value) if isinstance(part, ast.expr)}


def _is_in(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)
