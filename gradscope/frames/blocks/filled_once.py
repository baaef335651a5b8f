"""Places that a function fills where they are empty, and reads at every call: ``if self.w is None: self.w = …``."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import NamedTuple

from gradscope.frames.syntax_trees import innermost, last_name, parsed

_PLACES = (ast.Attribute, ast.Subscript)


class FilledOnce(NamedTuple):
    """A statement that fills such a place."""

    line: int
    end_line: int
    function: str
    block: tuple[int, int]
    """First and last line of the block that runs only where the place is empty."""


def filled_once(text: str, line: int) -> FilledOnce | None:
    """The statement that fills a place with what a line computes; None for none, or several.

    An ``if`` asks for the place, or for what it is in: around the line, or before it with a ``return``. What is
    computed may be given a name first, in the same block; the line may be in a function that is called there.
    """
    tree = parsed(text)
    function = innermost(tree, line, ast.FunctionDef) if tree is not None else None
    if not isinstance(function, ast.FunctionDef):
        return None
    found = _filling(function, lambda one: one.lineno <= line <= (one.end_lineno or 0))
    if not found and tree is not None:
        others = (one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef) and one is not function)
        found = {one for other in others for one in _filling(other, lambda one: _calls(one, function.name))}
    return found.pop() if len(found) == 1 else None


def _filling(function: ast.FunctionDef, computes: Callable[[ast.stmt], bool]) -> set[FilledOnce]:
    """The statements of a function that fill a place with what one before them in their block, or they, compute."""
    return {
        FilledOnce(
            store.lineno, store.end_lineno or store.lineno, function.name, (block[0].lineno, block[-1].end_lineno or 0)
        )
        for guard in ast.walk(function)
        if isinstance(guard, ast.If)
        for block in _blocks_behind(function, guard)
        for computing in filter(computes, block)
        for store in block[block.index(computing) :]
        if isinstance(store, ast.Assign)
        for place in store.targets
        if isinstance(place, _PLACES) and _asks_for(guard.test, place) and _is_read(function, guard.test, place)
    }


def _calls(statement: ast.stmt, name: str) -> bool:
    return any(isinstance(node, ast.Call) and last_name(node.func) == name for node in ast.walk(statement))


def _blocks_behind(function: ast.FunctionDef, guard: ast.If) -> list[list[ast.stmt]]:
    """The blocks that run only if a test says so."""
    behind = [guard.body, guard.orelse]
    if guard in function.body and isinstance(guard.body[-1], ast.Return):
        behind.append(function.body[function.body.index(guard) + 1 :])
    return behind


def _asks_for(test: ast.expr, place: ast.Attribute | ast.Subscript) -> bool:
    """Whether a test is about a place, as ``hasattr(self, "w")`` is, or about what it is in: ``key not in kept``."""
    nodes = list(ast.walk(test))
    asked = {ast.unparse(one) for one in nodes if isinstance(one, (ast.Name, *_PLACES))}
    constants = [one.value for one in nodes if isinstance(one, ast.Constant)]
    return bool(_names(place) & asked) or (isinstance(place, ast.Attribute) and place.attr in constants)


def _is_read(function: ast.FunctionDef, test: ast.expr, place: ast.Attribute | ast.Subscript) -> bool:
    """Whether a function reads a place elsewhere than in the test for it."""
    tested = set(map(id, ast.walk(test)))
    return any(
        isinstance(node, _PLACES) and isinstance(node.ctx, ast.Load) and ast.unparse(node) == ast.unparse(place)
        for node in ast.walk(function)
        if id(node) not in tested
    )


def _names(place: ast.Attribute | ast.Subscript) -> set[str]:
    return {ast.unparse(place), *([ast.unparse(place.value)] if isinstance(place, ast.Subscript) else ())}
