"""The call of a program that hands a value to the function that keeps it, by way of other functions if need be.

``meter.update(entropy(logits))``; ``log(entropy=entropy(logits))``, where ``log`` calls ``update(value)`` for each.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.names.put_statements import (
    Handed,
    Put,
    arguments_for,
    function_of,
    given_out_by,
    last_part,
    parts_with_graphs,
)
from gradscope.frames.syntax_trees import dotted_name, innermost, parsed

_OF_OBJECTS = ("forward", "__call__")
"""Methods that run where the object is called, whatever name that has."""
_DEEPEST = 3
"""Functions that hand a value on."""


class GivenValue(NamedTuple):
    """What is known of a value that a function is given."""

    names: frozenset[tuple[str, str]]
    """What it was called, each with the function in which it was called so."""
    lines: frozenset[int]
    """Lines of calls that made it."""
    makers: frozenset[str]
    """The functions that these are in, by the last part of their names."""


def handing_calls(text: str, put: Put, given: GivenValue, deep: int = _DEEPEST) -> list[Handed]:
    """The calls, or the lines that make the dicts for them, that hand a value to the function around a place.

    Args:
        text: Source of a file.
        put: The place.
        given: What is known of the value.
        deep: How many functions may hand it on.
    """
    tree = parsed(text)
    wanted = [put.parameters.index(name) for name in put.names if name in put.parameters]
    if tree is None or not wanted or not deep:
        return []
    found: dict[int, Handed] = {}
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or last_part(dotted_name(call.func)) != put.function:
            continue
        around = innermost(tree, call.lineno, ast.FunctionDef, ast.AsyncFunctionDef)
        for value in arguments_for(call, put, wanted):
            assigned = _assigned(around or tree, value, call)
            is_kept_in = isinstance(assigned, ast.Dict | ast.List | ast.Tuple)
            at = assigned if assigned is not None and is_kept_in else call
            parts = [*parts_with_graphs(at if is_kept_in else value)]
            made = [*parts, *(() if assigned is None or is_kept_in else parts_with_graphs(assigned))]
            if _is_made_inside(call, given) or any(_is_it(part, around, given) for part in made):
                end = at.end_lineno or at.lineno
                found.setdefault(at.lineno, Handed(at.lineno, end, ast.unparse(value)))
            elif around is not None:
                for further in _handed_on(text, call, parts, around, given, deep):
                    found.setdefault(further.line, further)
    return [*found.values()]


def _handed_on(
    text: str, call: ast.Call, parts: list[ast.expr], around: ast.AST, given: GivenValue, deep: int
) -> Iterator[Handed]:
    """The calls that hand it to a function that hands on what it was given."""
    name, parameters, collecting = function_of(around)
    names = {part.id for part in parts if isinstance(part, ast.Name)}
    names |= {whole for one in names for whole in given_out_by(text, one)}
    taken = tuple(one for one in parameters if one in names)
    if taken:
        line, end = call.lineno, call.end_lineno or call.lineno
        put = Put(line, end, "", taken, (), name, parameters, collecting)
        yield from handing_calls(text, put, given, deep - 1)


def _is_made_inside(call: ast.Call, given: GivenValue) -> bool:
    return any(call.lineno <= line <= (call.end_lineno or call.lineno) for line in given.lines)


def _is_it(part: ast.expr, around: ast.AST | None, given: GivenValue) -> bool:
    """Whether a part of an argument is the value, by its name there, or as what the function that made it gives."""
    if isinstance(part, ast.Call):
        owner = part.func.value if isinstance(part.func, ast.Attribute) else None
        is_own = owner is None or (isinstance(owner, ast.Name) and owner.id == "self")
        by_object = is_own and not given.makers.isdisjoint(_OF_OBJECTS)
        return by_object or last_part(dotted_name(part.func)) in given.makers
    return (dotted_name(part), getattr(around, "name", "<module>")) in given.names


def _assigned(scope: ast.AST, value: ast.expr, call: ast.Call) -> ast.expr | None:
    """What a function last gave to a name before a call."""
    if not isinstance(value, ast.Name):
        return None
    assigned = [
        node.value
        for node in ast.walk(scope)
        if isinstance(node, ast.Assign)
        and (node.end_lineno or 0, node.end_col_offset or 0) <= (call.lineno, call.col_offset)
        and any(isinstance(target, ast.Name) and target.id == value.id for target in node.targets)
    ]
    return max(assigned, key=lambda one: (one.lineno, one.col_offset), default=None)
