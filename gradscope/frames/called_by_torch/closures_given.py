"""The function that an optimizer's step is given at a line, where it returns nothing, or computes nothing."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed

_TELLS = frozenset(("print", "append", "item", "float", "write", "info", "debug", "detach", "zero_grad", "format"))
"""What a closure may call that computes no loss and no gradient."""


class PlainClosure(NamedTuple):
    """A closure that gives what was computed elsewhere."""

    line: int
    end_line: int


def closure_without_result(text: str, line: int) -> tuple[int, int, int] | None:
    """The line of a closure's ``def``, and first and last line of its last statement; None where it returns a value.

    Args:
        text: Source of the file.
        line: Where ``step`` is called: ``optimizer.step(closure)``, ``optimizer.step(self.closure)``.
    """
    tree = parsed(text)
    given = {
        value.attr if isinstance(value, ast.Attribute) else getattr(value, "id", "")
        for call in (ast.walk(tree) if tree is not None else ())
        if isinstance(call, ast.Call) and call.lineno <= line <= (call.end_lineno or call.lineno)
        if isinstance(call.func, ast.Attribute) and call.func.attr == "step"
        for value in (*call.args, *(keyword.value for keyword in call.keywords))
    }
    functions = [
        node
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.FunctionDef) and node.name in given
    ]
    if len(functions) != 1:
        return None
    (function,) = functions
    if any(isinstance(node, ast.Return) and node.value is not None for node in ast.walk(function)):
        return None
    last = function.body[-1]
    return function.lineno, last.lineno, last.end_lineno or last.lineno


def plain_closure(text: str, line: int) -> PlainClosure | None:
    """The closure of a step at a line, where it calls nothing that may compute: ``step(lambda: loss)``.

    None where it is not in the text as a lambda or a function of its own, or calls something.
    """
    tree = parsed(text)
    values = [
        value
        for call in (ast.walk(tree) if tree is not None else ())
        if isinstance(call, ast.Call) and call.lineno <= line <= (call.end_lineno or call.lineno)
        if isinstance(call.func, ast.Attribute) and call.func.attr == "step"
        for value in (*call.args, *(keyword.value for keyword in call.keywords))
    ]
    if tree is None or len(values) != 1:
        return None
    closures = _closures(tree, values[0])
    if len(closures) != 1 or not all(_computes_nothing(node) for node in ast.walk(closures[0])):
        return None
    return PlainClosure(closures[0].lineno, closures[0].end_lineno or closures[0].lineno)


def _closures(tree: ast.Module, value: ast.expr) -> list[ast.Lambda | ast.FunctionDef]:
    if isinstance(value, ast.Lambda):
        return [value]
    name = last_name(value)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name]
    named = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda)
        if any(last_name(target) == name for target in node.targets)
    ]
    return [*functions, *named]


def _computes_nothing(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return last_name(node.func) in _TELLS
    return not isinstance(node, ast.BinOp | ast.UnaryOp | ast.Await | ast.With)
