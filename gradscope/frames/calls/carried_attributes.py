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
    direct = [
        (target.attr, node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in _attributes(node)
        if _is_made_by_call(node.value, ast.unparse(target))
    ]
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    found = [*direct, *(one for function in functions for one in _by_names(function))]
    return tuple((attribute, node.lineno, node.end_lineno or node.lineno) for attribute, node in found)


def _by_names(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[str, ast.Assign]]:
    """Attributes that are given names of a function, which calls that were given the attributes had made."""
    assigned = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
    for node in assigned:
        for target, value in _pairs(node):
            names = {one.id for one in _elements(value) if isinstance(one, ast.Name)}
            if not isinstance(target, ast.Attribute) or len(names) != len(_elements(value)):
                continue
            made = (one for one in assigned if one.lineno < node.lineno and names <= _names_given(one))
            if any(_is_made_by_call(one.value, ast.unparse(target)) for one in made):
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


def _is_made_by_call(value: ast.expr, name: str) -> bool:
    return any(_is_made_of(call, name) for call in ast.walk(value) if isinstance(call, ast.Call))


def _is_made_of(call: ast.Call, name: str) -> bool:
    """Whether a call is given what has a name, as it is, or in a tuple."""
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    parts = [part for one in given for part in _elements(one)]
    return any(isinstance(one, ast.Attribute) and ast.unparse(one) == name for one in parts)
