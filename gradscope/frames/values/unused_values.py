"""Assignments whose value the text never reads: nothing reads the name, or the next statement with it replaces it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import blocks_of, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_LOOKS_EVERYWHERE = frozenset(("locals", "eval", "exec", "vars"))


class UnusedValue(NamedTuple):
    """One such assignment of a function."""

    line: int
    end_line: int
    name: str
    replaced_at: int
    """The line that replaces it; 0 where nothing reads the name at all."""


def unused_values(text: str) -> list[UnusedValue]:
    """All of a file: names of its functions, and its own that no function has."""
    tree = parsed(text)
    if tree is None:
        return []
    functions = [one for one in ast.walk(tree) if isinstance(one, _FUNCTIONS)]
    inside = {node.id for one in functions for node in ast.walk(one) if isinstance(node, ast.Name)}
    own = [found for found in _of(tree) if found.name not in inside]
    return [*own, *(found for one in functions for found in _of(one))]


def _of(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Module) -> Iterator[UnusedValue]:
    names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
    read = {node.id for node in names if not isinstance(node.ctx, ast.Store)}
    shared = {name for one in ast.walk(function) if isinstance(one, ast.Global | ast.Nonlocal) for name in one.names}
    if _LOOKS_EVERYWHERE & read:
        return
    for block in _blocks(function):
        for at, statement in enumerate(block):
            target = statement.targets[0] if isinstance(statement, ast.Assign) and len(statement.targets) == 1 else None
            if not isinstance(target, ast.Name) or target.id in shared or target.id.startswith("_"):
                continue
            end = statement.end_lineno or statement.lineno
            if target.id not in read:
                yield UnusedValue(statement.lineno, end, target.id, 0)
                continue
            following = next((one for one in block[at + 1 :] if _mentions(one, target.id)), None)
            if isinstance(following, ast.Assign) and _only_replaces(following, target.id):
                yield UnusedValue(statement.lineno, end, target.id, following.lineno)


def _blocks(statement: ast.stmt | ast.Module) -> Iterator[list[ast.stmt]]:
    for block in blocks_of(statement):
        yield block
        for one in block:
            if not isinstance(one, (*_FUNCTIONS, ast.ClassDef)):
                yield from _blocks(one)


def _mentions(statement: ast.stmt, name: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(statement))


def _only_replaces(statement: ast.Assign, name: str) -> bool:
    """Whether an assignment gives a name another value, for which it does not read it."""
    is_target = len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name)
    return is_target and not _mentions(ast.Expr(statement.value), name)
