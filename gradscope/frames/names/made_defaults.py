"""Modules that a text makes once for all objects: as the default of an argument, or in the body of a class."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_NAMED = (*_FUNCTIONS, ast.ClassDef)


class MadeDefault(NamedTuple):
    """A call that is run once, when the function or class around it is defined."""

    name: str
    """The argument, or the attribute of the class."""
    line: int
    end_line: int
    makers: frozenset[str]
    """Last parts of the names of what it calls, and of the classes and functions of the text that these call; none
    where the text calls one of its own elsewhere, too: what that made may be another one."""
    kept_as: frozenset[str]
    """The attributes that the text stores it in."""


@lru_cache(maxsize=64)
def made_defaults(text: str) -> tuple[MadeDefault, ...]:
    """Those of a file, in the order of their lines."""
    tree = parsed(text)
    if tree is None:
        return ()
    calls = {node.name: set(_called(node)) for node in ast.walk(tree) if isinstance(node, _NAMED)}
    counts, found = Counter(_called(tree)), []
    for name, value, body in _defaults(tree):
        makers, new = set[str](), set(_called(value))
        if any(one in calls and counts[one] > 1 for one in new):
            new = set()
        while new:
            makers |= new
            new = {one for maker in new for one in calls.get(maker, ())} - makers
        kept_as = frozenset(_kept_as(body, name))
        found.append(MadeDefault(name, value.lineno, value.end_lineno or value.lineno, frozenset(makers), kept_as))
    return tuple(sorted(found, key=lambda one: one.line))


def _defaults(tree: ast.Module) -> Iterator[tuple[str, ast.Call, ast.AST]]:
    """Each that is a call: its name, the call, and where it may be read."""
    for node in ast.walk(tree):
        if isinstance(node, _FUNCTIONS):
            positional = [*node.args.posonlyargs, *node.args.args]
            pairs = [*zip(positional[::-1], node.args.defaults[::-1], strict=False)]
            pairs += [
                (one, value) for one, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if value
            ]
            yield from ((one.arg, value, node) for one, value in pairs if isinstance(value, ast.Call))
        elif isinstance(node, ast.ClassDef):
            for one in node.body:
                if isinstance(one, ast.Assign) and isinstance(one.value, ast.Call):
                    names = [target.id for target in one.targets if isinstance(target, ast.Name)]
                    yield from ((name, one.value, tree) for name in names)


def _called(node: ast.AST) -> Iterator[str]:
    return filter(None, (last_name(one.func) for one in ast.walk(node) if isinstance(one, ast.Call)))


def _kept_as(body: ast.AST, name: str) -> Iterator[str]:
    """The attributes to which something is assigned that a name, or an attribute so called, is part of."""
    for node in ast.walk(body):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=False))
                for one, value in pairs:
                    read = {last_name(part) for part in ast.walk(value) if isinstance(part, ast.expr)}
                    if isinstance(one, ast.Attribute) and name in read:
                        yield one.attr
