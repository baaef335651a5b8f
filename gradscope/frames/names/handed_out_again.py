"""Functions that give what an object keeps from an earlier call: ``if self.cell is not None: return self.vectors``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.blocks.loops_around import loops_around
from gradscope.frames.syntax_trees import assigned_names, innermost, last_name, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class HandedOutAgain(NamedTuple):
    """What a function keeps, and under which condition it gives that; first and last lines."""

    function: str
    kept: list[tuple[int, int]]
    condition: tuple[int, int]


def handed_out_again(text: str, stored: int, used: int, made: int, maker: str) -> HandedOutAgain | None:
    """The function that a statement calls for a value, where that keeps the value and gives it to the next call, too.

    Args:
        text: Source of the file.
        stored: First line of the statement that stores what the call gives.
        used: A line of the same function that uses it, once in each of its runs.
        made: The line that made the value.
        maker: The function that this is in, by the last part of its name.
    """
    tree = parsed(text)
    around = innermost(tree, stored, *_FUNCTIONS) if tree is not None else None
    if tree is None or not isinstance(around, _FUNCTIONS) or innermost(tree, used, *_FUNCTIONS) is not around:
        return None
    statement = next((one for one in around.body if one.lineno == stored), None)
    if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Call) or loops_around(text, used):
        return None
    name = last_name(statement.value.func)
    functions = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS) and node.name == name]
    if len(functions) != 1 or functions[0] is around:
        return None
    returned = set(_returned(functions[0]))
    kept = [one for one in _stores(functions[0], returned) if _is_of(functions[0], one, made, maker)]
    condition = _condition(functions[0], returned, kept) if kept else None
    return None if condition is None else HandedOutAgain(name, [_lines(one) for one in kept], _lines(condition))


def _returned(function: ast.AST) -> Iterator[str]:
    """What a function returns of an object, as it is written."""
    for node in ast.walk(function):
        value = node.value if isinstance(node, ast.Return) else None
        for part in value.elts if isinstance(value, ast.Tuple | ast.List) else [value] if value is not None else []:
            if isinstance(part, ast.Attribute | ast.Subscript) and last_name(_whole(part)):
                yield ast.unparse(part)


def _stores(function: _Function, returned: set[str]) -> list[ast.Assign]:
    """The assignments in a function to what it returns of an object."""
    return [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and any(ast.unparse(part) in returned for part in _targets(node))
    ]


def _targets(node: ast.Assign) -> list[ast.expr]:
    return [
        part
        for target in node.targets
        for part in (target.elts if isinstance(target, ast.Tuple | ast.List) else [target])
        if isinstance(part, ast.Attribute | ast.Subscript)
    ]


def _is_of(function: _Function, store: ast.Assign, made: int, maker: str) -> bool:
    """Whether a value that a line made is what an assignment stores, or a part of it."""
    if store.lineno <= made <= (store.end_lineno or 0):
        return True
    values = store.value.elts if isinstance(store.value, ast.Tuple | ast.List) else [store.value]
    names = {one.id for one in values if isinstance(one, ast.Name)}
    return any(isinstance(one, ast.Call) and last_name(one.func) == maker for one in values) or any(
        isinstance(node, ast.Assign)
        and node.lineno <= made <= (node.end_lineno or 0)
        and not names.isdisjoint(assigned_names(node))
        for node in ast.walk(function)
    )


def _condition(function: _Function, returned: set[str], kept: list[ast.Assign]) -> ast.expr | None:
    """What decides whether a function gives what is kept: with a return of it, or around all that makes it."""
    for node in ast.walk(function):
        if isinstance(node, ast.If):
            inside = [part for one in node.body for part in ast.walk(one)]
            gives = any(isinstance(one, ast.Return) and not returned.isdisjoint(_returned(one)) for one in inside)
            fills = all(any(one is part for part in inside) for one in kept)
            if gives != fills:
                return node.test
    return None


def _whole(part: ast.expr) -> ast.expr:
    while isinstance(part, ast.Subscript):
        part = part.value
    return part


def _lines(node: ast.stmt | ast.expr) -> tuple[int, int]:
    return node.lineno, node.end_lineno or node.lineno
