"""Functions that give away an array of which they, or others, write the items: what the text of a file tells.

A tensor is put on what ``env.step(action)`` returned: that is ``self.frame``, which the next step fills again. Where a
name keeps it in between, the next step may come first, and a copy where the tensor is made is too late. Where the call
is right there, a copy is in time, and nothing is told.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.names.shared_arrays import SharingCall, written_arrays
from gradscope.frames.syntax_trees import innermost, last_name, parsed

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_STEPS = 12
"""Names and functions through which an array is followed."""


class GivenAway(NamedTuple):
    """``return self.frame``."""

    line: int
    end_line: int
    array: str
    """What the text calls it."""
    written: tuple[int, ...]
    """The lines that write items of it."""


def given_away(text: str, call: SharingCall) -> list[GivenAway]:
    """What gave the array that a call puts a tensor on, as the names between the two tell, in the order of the text."""
    tree = parsed(text)
    if tree is None:
        return []
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args)
    shared = [node for node in nodes if node.lineno == call.line and ast.unparse(node.args[0]) == call.of]
    return sorted(_Ways(tree).back_from(shared[0].args[0])) if shared else []


class _Ways:
    """The ways of an array through the names of a file, backwards."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._functions = [node for node in ast.walk(tree) if isinstance(node, _Function)]
        self._seen: set[tuple[int, str]] = set()

    def back_from(self, value: ast.expr, position: int | None = None, *, is_named: bool = False) -> Iterator[GivenAway]:
        """What gave a value, or one item of it, where a name keeps it in between."""
        if isinstance(value, ast.Call) and is_named:
            for function in self._functions:
                if function.name == last_name(value.func):
                    yield from self._given_by(function, position)
        elif isinstance(value, ast.Name) and position is None:
            scope = innermost(self._tree, value.lineno, *_Function.__args__)
            key = (scope.lineno if scope is not None else 0, value.id)
            if key not in self._seen and len(self._seen) < _STEPS:
                self._seen.add(key)
                yield from self._named(value.id, scope, is_named)

    def _given_by(self, function: _Function, position: int | None) -> Iterator[GivenAway]:
        owner = innermost(self._tree, function.lineno, ast.ClassDef)
        for node in ast.walk(function):
            if not isinstance(node, ast.Return | ast.Yield) or node.value is None:
                continue
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            if position is not None and position < len(values) > 1:
                values = [values[position]]
            for value in values:
                array = ast.unparse(value)
                of_object = isinstance(value, ast.Attribute)
                written = _lines_that_write(owner if of_object and owner is not None else self._tree, array)
                if written and (of_object or _is_kept(function, array)):
                    yield GivenAway(node.lineno, node.end_lineno or node.lineno, array, written)

    def _named(self, name: str, scope: ast.stmt | None, is_named: bool) -> Iterator[GivenAway]:
        """What gave what has a name in a function, or in the module."""
        for node in ast.walk(scope or self._tree):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    yield from self._stored(name, target, node.value)
            elif isinstance(node, ast.For):
                yield from self._stored(name, node.target, node.iter)
        parameters = [one.arg for one in scope.args.args] if isinstance(scope, _Function) else []
        if isinstance(scope, _Function) and name in parameters:
            at = parameters.index(name) - (parameters[0] in ("self", "cls"))
            for node in ast.walk(self._tree):
                if isinstance(node, ast.Call) and last_name(node.func) == scope.name:
                    given = [*node.args[at : at + 1], *(one.value for one in node.keywords if one.arg == name)]
                    for value in given:
                        yield from self.back_from(value, is_named=is_named)

    def _stored(self, name: str, target: ast.expr, value: ast.expr) -> Iterator[GivenAway]:
        if isinstance(target, ast.Name) and target.id == name:
            yield from self.back_from(value, is_named=True)
        elif isinstance(target, ast.Tuple):
            for position, one in enumerate(target.elts):
                if isinstance(one, ast.Name) and one.id == name:
                    yield from self.back_from(value, position, is_named=True)


def _lines_that_write(within: ast.AST, array: str) -> tuple[int, ...]:
    lines = {
        node.lineno
        for node in ast.walk(within)
        if isinstance(node, ast.stmt | ast.expr) and array in written_arrays(node)
    }
    return tuple(sorted(lines))


def _is_kept(function: _Function, name: str) -> bool:
    """Whether a name is of what was there before a function was called; a generator keeps what it makes, too."""
    stores = [node for node in ast.walk(function) if isinstance(node, ast.Name) and node.id == name]
    is_made = any(isinstance(node.ctx, ast.Store) for node in stores)
    yields = any(isinstance(node, ast.Yield) for node in ast.walk(function))
    return bool(stores) and (yields or not is_made)
