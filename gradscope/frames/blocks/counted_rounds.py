"""The condition that makes a step in every so many rounds of a loop: ``if (i + 1) % 4 == 0:``."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.frames.syntax_trees import assigned_names, innermost, last_name, parsed

_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_CODE = (ast.FunctionDef, ast.AsyncFunctionDef)
_LEAVES = (ast.Continue, ast.Return)


def counted_condition(text: str, line: int) -> tuple[int, int] | None:
    """First and last line of the condition under which a line runs, where it counts the rounds of one run of the loop.

    The count begins anew with the loop: it is the loop's variable, or a name that is set to a number before the loop.
    A line of a function that has no such condition is looked for where that function is called. None where nothing
    counts, or where more than one place calls it.
    """
    tree = parsed(text)
    if tree is None:
        return None
    found = _counted_at(tree, line)
    function = innermost(tree, line, *_CODE)
    if found is None and isinstance(function, _CODE):
        calls = _calls(tree, function)
        found = _counted_at(tree, calls[0]) if len(calls) == 1 else None
    return found


def _counted_at(tree: ast.Module, line: int) -> tuple[int, int] | None:
    function, loop = innermost(tree, line, *_CODE), innermost(tree, line, *_LOOPS)
    if loop is None or (function is not None and loop.lineno < function.lineno):
        return None
    counts = _counts(function or tree, loop)
    if not counts:
        return None
    for test in _tests(loop, line) if _is_run_again(tree, loop, function) else ():
        for asked in (test, *_assigned(loop, test)):
            if _asks_for_count(asked, counts):
                return asked.lineno, asked.end_lineno or asked.lineno
    return None


def _is_run_again(tree: ast.Module, loop: ast.stmt, function: ast.stmt | None) -> bool:
    """Whether a loop is in another one, or its function is called in one or in several places."""
    start = function.lineno if function is not None else 0
    around = [node for node in ast.walk(tree) if isinstance(node, _LOOPS) and node is not loop]
    if any(start < node.lineno <= loop.lineno <= (node.end_lineno or 0) for node in around):
        return True
    calls = _calls(tree, function) if isinstance(function, _CODE) else []
    return len(calls) > 1 or any(node.lineno <= at <= (node.end_lineno or 0) for node in around for at in calls)


def _calls(tree: ast.Module, function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[int]:
    """The lines outside a function that call it by its name."""
    inside = range(function.lineno, (function.end_lineno or 0) + 1)
    named = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and last_name(node.func) == function.name)
    return [node.lineno for node in named if node.lineno not in inside]


def _counts(scope: ast.stmt | ast.Module, loop: ast.stmt) -> set[str]:
    """Names that count the rounds from the loop's beginning on."""
    counts = set[str]()
    if isinstance(loop, ast.For | ast.AsyncFor):
        counts |= {node.id for node in ast.walk(loop.target) if isinstance(node, ast.Name)}
    raised = {
        ast.unparse(node.target)
        for node in ast.walk(loop)
        if isinstance(node, ast.AugAssign) and isinstance(node.value, ast.Constant) and node.value.value == 1
    }
    for node in ast.walk(scope):
        if not isinstance(node, ast.Assign) or node.lineno >= loop.lineno:
            continue
        if isinstance(node.value, ast.Constant) and type(node.value.value) is int:
            counts |= raised.intersection(map(ast.unparse, node.targets))
    return counts


def _tests(loop: ast.stmt, line: int) -> Iterator[ast.expr]:
    """Conditions in a loop that let a line run: around it, or those before it that leave the round."""
    for node in ast.walk(loop):
        if not isinstance(node, ast.If):
            continue
        is_around = node.body[0].lineno <= line <= (node.body[-1].end_lineno or 0)
        is_left = (node.end_lineno or 0) < line and isinstance(node.body[-1], _LEAVES) and not node.orelse
        if is_around or is_left:
            yield node.test


def _assigned(loop: ast.stmt, test: ast.expr) -> Iterator[ast.expr]:
    """What the names of a condition were computed as in the loop."""
    names = {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}
    for node in ast.walk(loop):
        if isinstance(node, ast.Assign) and names.intersection(assigned_names(node)):
            yield node.value


def _asks_for_count(test: ast.expr, counts: set[str]) -> bool:
    """Whether a condition asks for the remainder of a count, or whether a count is at a number."""
    for node in ast.walk(test):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) and _names(node.left) & counts:
            return True
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.GtE) and _names(node.left) & counts:
            return True
    return False


def _names(value: ast.expr) -> set[str]:
    return {ast.unparse(node) for node in ast.walk(value) if isinstance(node, ast.Name | ast.Attribute)}
