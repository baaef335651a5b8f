"""Who calls a function of a file, where the text leaves no doubt of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.syntax_trees import innermost, last_name, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_ENTERED = ("__enter__", "__exit__", "__aenter__", "__aexit__")

_CALLED_BY_TORCH = ("forward", "backward", "extra_repr")


class CallSite(NamedTuple):
    """A statement's line that calls a function, or opens the block that does."""

    line: int
    end_line: int
    called: str
    """Text of what is called: ``self.weights.restore``."""
    caller: int
    """The first line of the function around; 0 for none."""


@lru_cache(maxsize=1024)
def function_around(text: str, line: int) -> int:
    """The first line of the function that a line is in; 0 for none."""
    tree = parsed(text)
    return getattr(innermost(tree, line, *_FUNCTIONS), "lineno", 0) if tree is not None else 0


def name_of(text: str, function: int) -> str:
    """The name of the function that begins at a line; empty for none."""
    tree = parsed(text) if function else None
    return getattr(innermost(tree, function, *_FUNCTIONS), "name", "") if tree is not None else ""


@lru_cache(maxsize=64)
def all_calls(text: str, function: int) -> tuple[CallSite, ...] | None:
    """All calls of the function that begins at a line; None where something else than the text may call it.

    A text that hands it on, or that has two functions of its name, may call it anywhere; a function that nothing
    names has none.
    """
    tree = parsed(text)
    node = innermost(tree, function, *_FUNCTIONS) if tree is not None and function else None
    if tree is None or not isinstance(node, _Function):
        return None
    if node.name in _ENTERED:
        return tuple(sorted(_opened(tree, node)))
    if node.name in _CALLED_BY_TORCH or node.name.startswith("__"):
        return None
    inside = range(node.lineno, (node.end_lineno or node.lineno) + 1)
    namesakes = [one for one in ast.walk(tree) if isinstance(one, _Function) and one.name == node.name]
    calls = [one for one in ast.walk(tree) if isinstance(one, ast.Call) and last_name(one.func) == node.name]
    called = {id(one.func) for one in calls}
    names = [one for one in ast.walk(tree) if isinstance(one, ast.Name | ast.Attribute) and last_name(one) == node.name]
    if len(namesakes) > 1 or any(id(one) not in called or one.lineno in inside for one in names):
        return None
    return tuple(sorted(_site(tree, one, one.func) for one in calls))


def _site(tree: ast.Module, node: ast.expr, called: ast.expr) -> CallSite:
    around = getattr(innermost(tree, node.lineno, *_FUNCTIONS), "lineno", 0)
    return CallSite(node.lineno, node.end_lineno or node.lineno, ast.unparse(called), around)


def _opened(tree: ast.Module, function: _Function) -> Iterator[CallSite]:
    """The blocks that enter what a class of the text makes, and leave it: ``with Swapped():``, ``with kept:``."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    owner = next((one for one in classes if function in one.body), None)
    if owner is None or any(last_name(base) == owner.name for one in classes for base in one.bases):
        return
    assigned = (
        (last_name(target), node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and len(node.targets) == 1
        for target in node.targets
    )
    kept = {name for name, value in assigned if _makes(value, owner.name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                opened = item.context_expr
                if _makes(opened, owner.name) or last_name(opened) in kept:
                    yield _site(tree, opened, opened.func if isinstance(opened, ast.Call) else opened)


def _makes(value: ast.expr, kind: str) -> bool:
    return isinstance(value, ast.Call) and last_name(value.func) == kind
