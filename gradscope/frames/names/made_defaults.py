"""Modules that a text makes once for all objects: as the default of an argument, or in the body of a class."""

from __future__ import annotations

import ast
import textwrap
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.syntax_trees import innermost, last_name, parsed

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


def is_left_out_again(text: str, line: int, name: str) -> bool:
    """Whether the class with an argument's default at a line is made several times without that argument.

    Args:
        text: Source of the file.
        line: Of the default, in the header of ``__init__``.
        name: The argument.
    """
    tree = parsed(text)
    owner = innermost(tree, line, ast.ClassDef) if tree is not None else None
    inits = [one for one in owner.body if isinstance(one, _FUNCTIONS)] if isinstance(owner, ast.ClassDef) else []
    init = next((one for one in inits if one.name == "__init__" and one.lineno <= line < one.body[0].lineno), None)
    if tree is None or init is None or not isinstance(owner, ast.ClassDef):
        return False
    positional = [one.arg for one in (*init.args.posonlyargs, *init.args.args)][1:]
    place = positional.index(name) if name in positional else len(positional)
    left_out = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and last_name(node.func) == owner.name
        and len(node.args) <= place
        and not any(isinstance(one, ast.Starred) for one in node.args)
        and not any(one.arg in (None, name) for one in node.keywords)
    ]
    return len(left_out) > 1 or any(_is_repeated(tree, node) for node in left_out)


def _is_repeated(tree: ast.Module, call: ast.Call) -> bool:
    """Whether a call stands in a comprehension, or in a loop of its function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ListComp | ast.GeneratorExp) and any(part is call for part in ast.walk(node.elt)):
            return True
        if isinstance(node, ast.For) and any(part is call for one in node.body for part in ast.walk(one)):
            return True
    return False


def reads_attribute(source: str, names: frozenset[str]) -> bool:
    """Whether a statement calls an attribute of ``self`` that has one of some names."""
    tree = parsed(textwrap.dedent(source))
    return tree is not None and any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in names
        and last_name(node.func.value) == "self"
        for node in ast.walk(tree)
    )
