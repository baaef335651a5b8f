"""Functions given to ``checkpoint`` in a loop that read a variable of the loop: by the time of backward it has its last
value.

``for block in blocks: x = checkpoint(lambda h: block(h), x)``. Python looks the name up when the function runs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.syntax_trees import assigned_names, last_name, parsed

_CODE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class LateVariable(NamedTuple):
    """One call of ``checkpoint``."""

    line: int
    """Of the call."""
    end_line: int
    name: str
    """The variable of the loop."""


@lru_cache(maxsize=16)
def late_variables(text: str) -> tuple[LateVariable, ...]:
    """Those of a file."""
    tree = parsed(text) if "checkpoint" in text else None
    return () if tree is None else tuple(_within(tree, []))


def _within(node: ast.AST, loops: list[ast.For]) -> Iterator[LateVariable]:
    """The calls below a node, which is in some loops of its function."""
    for child in ast.iter_child_nodes(node):
        inside = [] if isinstance(child, _CODE) else [*loops, child] if isinstance(child, ast.For) else loops
        if isinstance(child, ast.Call) and last_name(child.func) == "checkpoint" and child.args and loops:
            names = _read_late(child.args[0], loops)
            if names:
                yield LateVariable(child.lineno, child.end_lineno or child.lineno, names[0])
        yield from _within(child, inside)


def _read_late(given: ast.expr, loops: list[ast.For]) -> list[str]:
    """The variables of some loops that a function, which is made in one of them, reads."""
    code: ast.AST | None = given if isinstance(given, ast.Lambda) else None
    if isinstance(given, ast.Name):
        made = [one for one in ast.walk(loops[-1]) if isinstance(one, ast.FunctionDef) and one.name == given.id]
        code = made[0] if len(made) == 1 else None
    if not isinstance(code, _CODE):
        return []
    own = {one.arg for one in ast.walk(code.args) if isinstance(one, ast.arg)}
    body = code.body if isinstance(code.body, list) else [code.body]
    parts = [one for part in body for one in ast.walk(part) if isinstance(one, ast.Name)]
    own |= {one.id for one in parts if isinstance(one.ctx, ast.Store)}
    read = [one.id for one in parts if isinstance(one.ctx, ast.Load) and one.id not in own]
    changing = _changing(loops[-1])
    return [name for name in dict.fromkeys(read) if name in changing]


def _changing(loop: ast.For) -> set[str]:
    """The variables of a loop, and what its block computes with them."""
    found = {one.id for one in ast.walk(loop.target) if isinstance(one, ast.Name)}
    for statement in loop.body:
        value = statement.value if isinstance(statement, ast.Assign) else None
        read = {one.id for one in ast.walk(value) if isinstance(one, ast.Name)} if value is not None else set[str]()
        is_plain = isinstance(value, ast.Subscript | ast.Call) and not read.isdisjoint(found)
        if is_plain and not any(isinstance(one, _CODE) for one in ast.walk(statement)):
            found |= set(assigned_names(statement))
    return found
