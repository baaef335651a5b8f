"""Whether lines of a text run in the same rounds of a loop, as far as calls by name show."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from functools import lru_cache

from gradscope.frames.syntax_trees import innermost, parsed

_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_COMPREHENSIONS = (ast.ListComp, ast.DictComp, ast.SetComp, ast.GeneratorExp)
_CODE = (ast.FunctionDef, ast.AsyncFunctionDef)
_CALLS = 64
"""Calls on the way to a loop that are looked at."""


def share_a_loop(text: str, line: int, others: Collection[int]) -> bool:
    """Whether the innermost loop that a line runs in, also by a call, has one of other lines in it or a call to one."""
    tree = parsed(text)
    if tree is None:
        return False
    loops = [loop for at in _with_callers(tree, line, outside_loops=True) if (loop := _loop_at(tree, at)) is not None]
    inside = {at for other in others for at in _with_callers(tree, other, outside_loops=False)}
    return any(loop.lineno <= at <= (loop.end_lineno or 0) for loop in loops for at in inside)


@lru_cache(maxsize=256)
def loops_around(text: str, line: int) -> list[tuple[int, int]]:
    """The first and last lines of the loops around a line in its own function, the outermost first."""
    tree = parsed(text)
    if tree is None:
        return []
    function = innermost(tree, line, *_CODE)
    start = function.lineno if function is not None else 0
    loops = (node for node in ast.walk(tree) if isinstance(node, _LOOPS) and _is_inside(node, line))
    return sorted((loop.lineno, loop.end_lineno or 0) for loop in loops if loop.lineno > start)


def share_rounds(text: str, line: int, holder: str, writes: Collection[int], made: int | None) -> bool:
    """Whether each round of a loop puts into one list a thing of before it, which the round writes as well.

    Args:
        text: Source of the file.
        line: What puts it there; the loop is the innermost one that it runs in, also by a call, or its comprehension.
        holder: What the line calls the list: one that the round makes holds nothing of other rounds. Empty: unknown.
        writes: Lines that write the thing.
        made: The line that makes one of it in every run; None where it was made once, or before all.
    """
    tree = parsed(text)
    if tree is None:
        return False
    written = {at for other in writes for at in _with_callers(tree, other, outside_loops=False)}
    new = set() if made is None else {*_with_callers(tree, made, outside_loops=False)}
    for loop, through in _rounds(tree, line):
        is_new = any(_is_inside(loop, at) for at in new) or any(_assigns(node, holder) for node in (loop, *through))
        if not is_new and any(_is_inside(loop, at) for at in written):
            return True
    return False


def is_written_between(text: str, lines: Collection[int], writes: Collection[int]) -> bool:
    """Whether a line that runs once in its function writes something between two others of that function."""
    tree = parsed(text)
    if tree is None or any(_loop_at(tree, at) is not None for at in (*lines, *writes)):
        return False
    blocks = {id(innermost(tree, at, *_CODE)) for at in lines}
    first, last = min(lines), max(lines)
    inside = [at for at in writes if first < at < last]
    return len(blocks) == 1 and any(id(innermost(tree, at, *_CODE)) in blocks for at in inside)


def _rounds(tree: ast.Module, line: int) -> Iterator[tuple[ast.AST, tuple[ast.AST, ...]]]:
    """The innermost loops that a line runs in, each with the functions between."""
    todo: list[tuple[int, tuple[ast.AST, ...]]] = [(line, ())]
    seen = {line}
    while todo and len(seen) < _CALLS:
        at, through = todo.pop()
        loop = _loop_at(tree, at) or _comprehension_at(tree, at)
        if loop is not None:
            yield loop, through
            continue
        function = innermost(tree, at, *_CODE)
        if function is None:
            continue
        for call in _calls_of(tree, function):
            if call not in seen:
                seen.add(call)
                todo.append((call, (*through, function)))


def _comprehension_at(tree: ast.Module, line: int) -> ast.AST | None:
    """The comprehension of a statement at a line that gives its list a name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and node.lineno <= line <= (node.end_lineno or 0):
            return next((part for part in ast.walk(node.value) if isinstance(part, _COMPREHENSIONS)), None)
    return None


def _is_inside(node: ast.AST, line: int) -> bool:
    return getattr(node, "lineno", 0) <= line <= (getattr(node, "end_lineno", None) or 0)


def _assigns(around: ast.AST, name: str) -> bool:
    """Whether a name or attribute is given a value somewhere in a node."""
    targets = (node for node in ast.walk(around) if isinstance(node, ast.Name | ast.Attribute))
    return any(isinstance(node.ctx, ast.Store) and ast.unparse(node) == name for node in targets)


def _loop_at(tree: ast.Module, line: int) -> ast.stmt | None:
    """The innermost loop around a line in its own function."""
    loop, function = innermost(tree, line, *_LOOPS), innermost(tree, line, *_CODE)
    return loop if loop is not None and (function is None or loop.lineno > function.lineno) else None


def _with_callers(tree: ast.Module, line: int, *, outside_loops: bool) -> Iterator[int]:
    """A line, and the lines of calls that lead to it: on from where there is no loop yet, or from everywhere."""
    todo, seen = [line], {line}
    while todo and len(seen) < _CALLS:
        at = todo.pop()
        yield at
        function = innermost(tree, at, *_CODE)
        if function is None or (outside_loops and _loop_at(tree, at) is not None):
            continue
        for call in _calls_of(tree, function):
            if call not in seen:
                seen.add(call)
                todo.append(call)


def _calls_of(tree: ast.Module, function: ast.stmt) -> Iterator[int]:
    """The lines of calls by the name of a function; of ``__init__`` by that of its class."""
    name = getattr(function, "name", "")
    if name == "__init__":
        name = getattr(innermost(tree, function.lineno, ast.ClassDef), "name", name)
    for node in ast.walk(tree):
        called = node.func if isinstance(node, ast.Call) else None
        by = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if isinstance(node, ast.Call) and by == name:
            yield node.lineno
