"""Whole-number divisions in a function that gives the factor of a learning rate, as the text has them."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.frames.syntax_trees import parsed


def divided_in_factor(text: str, line: int) -> tuple[int, str] | None:
    """The line and the source of what a schedule's function returns by a whole-number division.

    Args:
        text: Source of the file.
        line: Where the schedule is made: ``LambdaLR(optimizer, warm_up(30))``, ``LambdaLR(optimizer, lambda s: …)``.

    Returns:
        None where the text does not say which function it is, or it has no such division, or several.
    """
    tree = parsed(text)
    calls = [
        node
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.Call) and node.lineno <= line <= (node.end_lineno or 0) and _is_schedule(node)
    ]
    if len(calls) != 1 or tree is None:
        return None
    call = calls[0]
    given = [one.value for one in call.keywords if one.arg == "lr_lambda"] or call.args[1:2]
    found = [division for one in given for division in _divisions(tree, one)]
    return found[0] if len(found) == 1 else None


def _is_schedule(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name in ("LambdaLR", "MultiplicativeLR")


def _divisions(tree: ast.Module, factor: ast.expr) -> Iterator[tuple[int, str]]:
    if isinstance(factor, ast.Lambda):
        yield from _returned(factor.body)
        return
    called = factor.func if isinstance(factor, ast.Call) else factor
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name]
    for owner in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name):
        functions += [one for one in owner.body if isinstance(one, ast.FunctionDef) and one.name == "__call__"]
    for function in functions if len(functions) == 1 else ():
        values = {
            ast.unparse(node.targets[0]): node.value for node in ast.walk(function) if isinstance(node, ast.Assign)
        }
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and node.value is not None:
                yield from _returned(values.get(ast.unparse(node.value), node.value))
            elif isinstance(node, ast.Lambda):
                yield from _returned(node.body)


def _returned(value: ast.expr) -> Iterator[tuple[int, str]]:
    """A division that is what is returned, a factor of it, or what it is bounded by: ``min(1, step // n)``."""
    if isinstance(value, ast.BinOp):
        if isinstance(value.op, ast.FloorDiv):
            yield value.lineno, ast.unparse(value)
        elif isinstance(value.op, ast.Mult):
            yield from _returned(value.left)
            yield from _returned(value.right)
    elif isinstance(value, ast.IfExp):
        yield from _returned(value.body)
        yield from _returned(value.orelse)
    elif isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        if value.func.id in ("min", "max", "float"):
            for one in value.args:
                yield from _returned(one)
        elif value.func.id == "int" and len(value.args) == 1 and _is_quotient(value.args[0]):
            yield value.lineno, ast.unparse(value)


def _is_quotient(value: ast.expr) -> bool:
    return isinstance(value, ast.BinOp) and isinstance(value.op, ast.Div)
