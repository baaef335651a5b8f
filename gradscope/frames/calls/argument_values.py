"""Where a program writes the value that a call is given as one of its arguments: in the call, or under a name."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gradscope.frames.syntax_trees import parsed


class Argument(NamedTuple):
    """Which argument of a call is meant."""

    function: str
    """The last part of its name."""
    name: str
    position: int
    """Among those that are given by place; -1: it has none."""
    values: tuple[object, ...]
    """What it may be."""


class Written(NamedTuple):
    """A value, and where it is written."""

    file: int
    line: int
    value: object


def place_of_value(texts: Sequence[str], file: int, line: int, argument: Argument) -> Written | None:
    """Where the value of an argument is written that the only such call at a line has.

    In the call itself or, where that reads a name, an attribute or a key, at the only place that gives one of that name
    one of the values: an assignment, a default, a keyword, an item of a dictionary. None where it is not clear.
    """
    tree = parsed(texts[file]) if 0 <= file < len(texts) else None
    calls = [
        node
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.Call)
        and node.lineno <= line <= (node.end_lineno or 0)
        and _last_name(node.func) == argument.function
    ]
    if len(calls) != 1:
        return None
    given = _given(calls[0], argument)
    if given is None:
        return None
    if isinstance(given, ast.Constant):
        return Written(file, given.lineno, given.value) if _is_one(given, argument.values) else None
    name = _last_name(given)
    trees = [parsed(text) for text in texts] if name else []
    found = {
        Written(number, value.lineno, value.value)
        for number, one in enumerate(trees)
        if one is not None
        for value in _values_of(one, name)
        if isinstance(value, ast.Constant) and _is_one(value, argument.values)
    }
    return found.pop() if len(found) == 1 else None


def _given(call: ast.Call, argument: Argument) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg == argument.name:
            return keyword.value
    place = argument.position
    is_plain = not any(isinstance(one, ast.Starred) for one in call.args)
    return call.args[place] if is_plain and 0 <= place < len(call.args) else None


def _is_one(node: ast.Constant, values: tuple[object, ...]) -> bool:
    if type(node.value) is bool:
        return any(node.value is one for one in values)  # (False is no 0 here)
    return type(node.value) in (int, float, str) and node.value in values


def _last_name(node: ast.expr) -> str:
    """``mode`` of ``mode``, ``self.cfg.mode`` and ``cfg["mode"]``; empty for others."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        return node.slice.value
    return ""


def _values_of(tree: ast.Module, name: str) -> Iterator[ast.expr]:
    """What is given to anything of a name."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=targets, value=value) if any(_last_name(target) == name for target in targets):
                yield value
            case ast.keyword(arg=given, value=value) if given == name:
                yield value
            case ast.Dict(keys=keys, values=values):
                items = zip(keys, values, strict=True)
                yield from (value for key, value in items if isinstance(key, ast.Constant) and key.value == name)
            case ast.arguments():
                yield from _defaults(node, name)
            case ast.Call(func=func) if _last_name(func) == "add_argument":
                flags = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
                if name in (flag.lstrip("-").replace("-", "_") for flag in flags):
                    yield from (keyword.value for keyword in node.keywords if keyword.arg == "default")


def _defaults(arguments: ast.arguments, name: str) -> Iterator[ast.expr]:
    by_place = [*arguments.posonlyargs, *arguments.args]
    for argument, value in zip(reversed(by_place), reversed(arguments.defaults), strict=False):
        if argument.arg == name:
            yield value
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if argument.arg == name and default is not None:
            yield default
