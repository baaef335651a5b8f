"""Assignments that give an attribute what a call makes of it: ``y, self.h = self.model(x, self.h)``.

Or by way of a name of the same function: ``y, new = self.model(x, self.h)``, then ``self.h = new``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache

from gradscope.frames.syntax_trees import parsed


@lru_cache(maxsize=16)
def carried_attributes(text: str) -> tuple[tuple[str, int, int], ...]:
    """All of a file: the attribute's last name, and the first and last line of the statement."""
    tree = parsed(text)
    if tree is None:
        return ()
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {id(node): names for one in functions for names in [_read_from(one)] for node in ast.walk(one)}
    direct = [
        (target.attr, node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in _attributes(node)
        if _is_made_by_call(node.value, ast.unparse(target), inside.get(id(node), {}))
    ]
    found = [*direct, *(one for function in functions for one in _by_names(function))]
    return tuple((attribute, node.lineno, node.end_lineno or node.lineno) for attribute, node in found)


def _read_from(function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, str]:
    """Names of a function by the attribute that they are given, as it is or its parts: ``h, c = self.state``.

    Only those that are given nothing else but what a call makes of them.
    """
    given: dict[str, set[str]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            pairs = [*_pairs(node)] or [(target, node.value) for target in node.targets]
            for target, value in pairs:
                for name in (one.id for one in ast.walk(target) if isinstance(one, ast.Name)):
                    if isinstance(value, ast.Attribute):
                        given.setdefault(name, set()).add(ast.unparse(value))
                    elif not any(_takes(call, name) for call in ast.walk(value) if isinstance(call, ast.Call)):
                        given.setdefault(name, set()).add("")
    return {name: values.pop() for name, values in given.items() if len(values) == 1}


def _takes(call: ast.Call, name: str) -> bool:
    return any(isinstance(one, ast.Name) and one.id == name for one in _parts_given(call))


def _by_names(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[str, ast.Assign]]:
    """Attributes that are given names of a function, which calls that were given the attributes had made."""
    assigned, read = [node for node in ast.walk(function) if isinstance(node, ast.Assign)], _read_from(function)
    for node in assigned:
        for target, value in _pairs(node):
            names = {one.id for one in _elements(value) if isinstance(one, ast.Name)}
            if not isinstance(target, ast.Attribute) or len(names) != len(_elements(value)):
                continue
            made = (one for one in assigned if one.lineno < node.lineno and names <= _names_given(one))
            if any(_is_made_by_call(one.value, ast.unparse(target), read) for one in made):
                yield target.attr, node


def _pairs(statement: ast.Assign) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What is assigned to what, one by one where both sides are written out."""
    for target in statement.targets:
        both = _elements(target), _elements(statement.value)
        is_several = isinstance(target, ast.Tuple | ast.List)
        if is_several and len(both[0]) == len(both[1]):
            yield from zip(*both, strict=True)
        elif not is_several:
            yield target, statement.value


def _elements(value: ast.expr) -> list[ast.expr]:
    return value.elts if isinstance(value, ast.Tuple | ast.List) else [value]


def _names_given(statement: ast.Assign) -> set[str]:
    """The names that a statement assigns, those of parts of a tuple among them."""
    return {one.id for target in statement.targets for one in ast.walk(target) if isinstance(one, ast.Name)}


def _attributes(statement: ast.Assign) -> Iterator[ast.Attribute]:
    for target in statement.targets:
        for one in target.elts if isinstance(target, ast.Tuple | ast.List) else [target]:
            if isinstance(one, ast.Attribute):
                yield one


def _is_made_by_call(value: ast.expr, name: str, read: dict[str, str]) -> bool:
    return any(_is_made_of(call, name, read) for call in ast.walk(value) if isinstance(call, ast.Call))


def _is_made_of(call: ast.Call, name: str, read: dict[str, str]) -> bool:
    """Whether a call is given what has a name, as it is, by another name that was given it, or in a tuple."""
    return any(
        ast.unparse(one) == name if isinstance(one, ast.Attribute) else read.get(one.id) == name
        for one in _parts_given(call)
        if isinstance(one, ast.Attribute | ast.Name)
    )


def _parts_given(call: ast.Call) -> list[ast.expr]:
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    return [part for one in given for part in _elements(one)]
