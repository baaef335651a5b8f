"""The call by which a program reaches a line, at the place where it also reaches others: in one loop of its own.

Wrappers stand between: ``engine.clear()`` and ``engine.backward(loss)`` are calls of two helpers, and what comes before
what is decided where both are called.
"""

from __future__ import annotations

import ast
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.syntax_trees import innermost, last_name, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_DEPTH = 4
"""How many helpers may stand between."""


class CallBeside(NamedTuple):
    """A call of a helper."""

    line: int
    end_line: int
    called: str
    """Text of what is called: ``engine.clear``."""


class _Level(NamedTuple):
    function: ast.stmt | None
    """The one around; None at the top of the file."""
    calls: frozenset[CallBeside]
    """Those in it by which the line is reached; none where the line itself is in it."""


def call_beside(text: str, line: int, others: Collection[int]) -> CallBeside | None:
    """The call by which a line is reached in the innermost function that reaches some others as well.

    None where the line stands in that function itself, where several calls in it lead to the line, or where another
    function reaches all of them without it. Functions are known by their names, methods whatever the object: a call on
    ``self`` of another class that has such a method is none. Those that nobody names do not count.
    """
    tree = parsed(text)
    if tree is None:
        return None
    reached = [{level.function for level in _levels(text, other, 0)} for other in others]
    common = [level for level in _levels(text, line, 0) if all(level.function in functions for functions in reached)]
    if not common or len(common[0].calls) != 1:
        return None
    chosen = common[0].function
    if chosen is not None:
        past = {level.function for level in _levels(text, line, chosen.lineno)}
        if any(level.function in past for level in common[1:]):
            return None
    return next(iter(common[0].calls))


def call_between(text: str, line: int, first: int, last: int) -> CallBeside | None:
    """The only one of a helper's calls that stands between two other lines of the function that reaches all three.

    These are lines themselves or calls by which they are reached. None where the line stands in that function itself.
    """
    places = [{level.function: level.calls for level in _levels(text, other, 0)} for other in (first, last)]
    for level in _levels(text, line, 0):
        if all(level.function in reached for reached in places):
            one, other = (
                {call.line for call in reached[level.function]} or {at}
                for reached, at in zip(places, (first, last), strict=True)
            )
            calls = [call for call in level.calls if max(one) < call.line < min(other)]
            return calls[0] if len(calls) == 1 else None
    return None


def called_twice(text: str, line: int) -> tuple[CallBeside, CallBeside] | None:
    """The two calls by which the innermost function that makes more than one reaches a line; None of any more."""
    levels = (sorted(level.calls) for level in _levels(text, line, 0))
    calls = next((several for several in levels if len(several) > 1), [])
    return (calls[0], calls[1]) if len(calls) == 2 else None


def only_call_of_what_ends(text: str, line: int) -> CallBeside | None:
    """The only call of the function that ends with the statement at a line, or with the loop or block around that.

    Whatever comes after it comes after that call. None where other statements follow it in the function (but for a
    ``return``, or a plain assignment), or where more than one call leads to it.
    """
    tree = parsed(text)
    function = innermost(tree, line, *_FUNCTIONS) if tree is not None else None
    if tree is None or not isinstance(function, _Function):
        return None
    after = [statement for statement in function.body if statement.lineno > line]
    if any(isinstance(node, ast.Call) for statement in after for node in ast.walk(statement)):
        return None
    calls = [call for _, call in _calls(tree, function)]
    return calls[0] if len(calls) == 1 else None


@lru_cache(maxsize=64)
def _levels(text: str, line: int, without: int) -> tuple[_Level, ...]:
    """The function around a line, those that call it, and so on: but for what calls the one that begins at a line."""
    tree = parsed(text)
    if tree is None:
        return ()
    own = innermost(tree, line, *_FUNCTIONS)
    found: dict[ast.stmt | None, set[CallBeside]] = {own: set()}
    todo = [own]
    for _ in range(_DEPTH):
        callers: dict[ast.stmt | None, set[CallBeside]] = {}
        for function in todo:
            if isinstance(function, _Function) and function.lineno != without:
                for around, call in _calls(tree, function):
                    if around not in found and _is_named(tree, around):
                        callers.setdefault(around, set()).add(call)
        found |= callers
        todo = list(callers)
    return tuple(_Level(function, frozenset(calls)) for function, calls in found.items())


def _is_named(tree: ast.Module, function: ast.stmt | None) -> bool:
    """Whether anything outside a function names it, so that it may be called."""
    if not isinstance(function, _Function):
        return True
    inside = range(function.lineno, (function.end_lineno or function.lineno) + 1)
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute))
    return any(last_name(node) == function.name and node.lineno not in inside for node in nodes)


def _calls(tree: ast.Module, function: _Function) -> list[tuple[ast.stmt | None, CallBeside]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _is_of(tree, node, function):
            call = CallBeside(node.lineno, node.end_lineno or node.lineno, ast.unparse(node.func))
            found.append((innermost(tree, node.lineno, *_FUNCTIONS), call))
    return found


def _is_of(tree: ast.Module, call: ast.Call, function: _Function) -> bool:
    """Whether a call may be one of a function; a method is called on an object, another function by its name."""
    owner = _class_of(tree, function)
    if isinstance(call.func, ast.Name):
        return call.func.id == function.name and owner is None
    if not isinstance(call.func, ast.Attribute) or call.func.attr != function.name or owner is None:
        return False
    around = innermost(tree, call.lineno, ast.ClassDef)
    is_on_self = isinstance(call.func.value, ast.Name) and call.func.value.id == "self"
    if is_on_self and isinstance(around, ast.ClassDef) and around is not owner:
        return not any(isinstance(node, _Function) and node.name == function.name for node in around.body)
    return True


def _class_of(tree: ast.Module, function: _Function) -> ast.ClassDef | None:
    classes = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    return next((one for one in classes if function in one.body), None)
