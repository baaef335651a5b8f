"""Calls that read what a function was given beside what it gave back, as if the function had left the one as it was."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.syntax_trees import assigned_names, innermost, last_name, parsed

_ABOUT = ("shape", "size", "dim", "ndim", "numel", "device", "dtype", "requires_grad", "new_zeros", "new_ones")
"""What is asked of a tensor without its values."""
_RANDOM = re.compile(r"rand|randn|rand_like|randn_like|randint|randperm|normal_?|bernoulli_?|uniform_?|dropout\w*")
_LOSS = re.compile(r"\w*(loss|criterion|mse|objective)\w*", re.IGNORECASE)
_CALLED = ("forward", "__call__")


class _Role(NamedTuple):
    """What a name or expression is."""

    of: str
    """The name that the function was given."""
    kind: str
    """``given`` (that name itself), ``result`` of the function, or ``further``: computed from a result."""
    name: str
    """The name that was read; empty for a call in its place."""


@lru_cache(maxsize=256)
def reads_both(text: str, line: int, function: str, names: frozenset[str], definition: str) -> str:
    """What a call at a line is given as one thing and as what a function made of it; empty where nothing.

    Args:
        text: The source of a file.
        line: A line of the statement that reads.
        function: The qualified name of the function that writes what it is given.
        names: The names by which the statement was seen to read the one tensor that it wrote.
        definition: Source of the file that defines the function.
    """
    tree = parsed(text)
    own = function.rpartition(".")[2]
    if tree is None or (own.endswith("_") and own not in _CALLED):  # (a name that says so)
        return ""
    around = innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef) or tree
    statements = sorted(simple_statements(around), key=lambda node: node.lineno)
    statement = next((node for node in statements if node.lineno <= line <= (node.end_lineno or 0)), None)
    if statement is None:
        return ""
    reader = _ArgumentReader(
        [node for node in statements if node.lineno < statement.lineno], callables(tree, function), names
    )
    is_random = _draws(definition, function)
    for call in ast.walk(statement):
        if isinstance(call, ast.Call) and not reader.is_function(call):
            found = _both(reader, call, is_random=is_random)
            if found:
                return found
    return ""


def _both(reader: _ArgumentReader, call: ast.Call, *, is_random: bool) -> str:
    parts = [set(reader.roles(part)) for part in (*call.args, *(one.value for one in call.keywords))]
    may_differ = is_random and bool(_LOSS.fullmatch(last_name(call.func)))
    for at, roles in enumerate(parts):
        others = [other for place, several in enumerate(parts) if place != at for other in several]
        for role in roles:
            for other in others:
                if role.of == other.of and role.kind != "given" and reader.are_taken_for_two(role, other, may_differ):
                    return role.of
    return ""


class _ArgumentReader:
    """Reads expressions of one function.

    Args:
        before: Its statements before, in order.
        functions: What the function that writes is called by.
        names: The names by which the tensor was seen to be read.
    """

    def __init__(self, before: list[ast.stmt], functions: frozenset[str], names: frozenset[str]) -> None:
        self._before = before
        self._functions = functions
        self._names = names

    def is_function(self, call: ast.Call) -> bool:
        """Whether a call is one of the function that writes."""
        return last_name(call.func) in self._functions

    def are_taken_for_two(self, role: _Role, other: _Role, may_differ: bool) -> bool:
        """Whether a result, and another or what the function was given, are read as two things though they are one.

        Args:
            role: The result, or what was computed from it.
            other: The other thing.
            may_differ: Whether they are compared, after numbers drawn at random went into the one that is given:
                then the result need not be the same tensor.
        """
        if role.name == other.name and role.name:
            return False
        is_same = role.kind == "result" and role.name in {*self._names, ""}
        if other.kind == "given":
            return is_same or may_differ
        return is_same and other.kind == "result" and other.name in {*self._names, ""}

    def roles(self, part: ast.AST, depth: int = 2) -> Iterator[_Role]:
        """What an expression is made of."""
        if isinstance(part, ast.Attribute) and part.attr in _ABOUT:
            return
        if isinstance(part, ast.Call) and self.is_function(part):
            yield from (_Role(name, "result", "") for name in names_given_to(part) if name in self._names)
            return
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            yield from self._of_name(part.id, depth)
            return
        for child in ast.iter_child_nodes(part):
            yield from self.roles(child, depth)

    def _of_name(self, name: str, depth: int) -> Iterator[_Role]:
        stored = next((node for node in reversed(self._before) if name in assigned_names(node)), None)
        value = stored.value if isinstance(stored, ast.Assign) else None
        if isinstance(value, ast.Call) and self.is_function(value):
            given = [one for one in names_given_to(value) if one != name]
            if stored is not None:
                yield from (_Role(one, "result", name) for one in given if not self._is_bound_after(one, stored))
            return
        if value is not None and stored is not None and depth > 0:
            reader = _ArgumentReader(self._before[: self._before.index(stored)], self._functions, self._names)
            for role in reader.roles(value, depth - 1):
                if role.kind != "given" and not self._is_bound_after(role.of, stored):
                    yield _Role(role.of, "further", name)
        if name in self._names:
            yield _Role(name, "given", name)

    def _is_bound_after(self, name: str, stored: ast.stmt) -> bool:
        return any(name in assigned_names(node) for node in self._before[self._before.index(stored) + 1 :])


def callables(tree: ast.Module, function: str) -> frozenset[str]:
    """By what names a file calls a function: its own, or those that objects of its class are given."""
    parts = function.split(".")
    if parts[-1] not in _CALLED or len(parts) < 2:
        return frozenset((parts[-1],))
    return frozenset(
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and any(isinstance(part, ast.Call) and last_name(part.func) == parts[-2] for part in ast.walk(node.value))
        for target in node.targets
        if (name := last_name(target))
    )


def _draws(definition: str, function: str) -> bool:
    """Whether a function's text draws numbers at random: noise, or what is left out."""
    tree, name = parsed(definition), function.rpartition(".")[2]
    return tree is not None and any(
        isinstance(part, ast.Call) and _RANDOM.fullmatch(last_name(part.func))
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == name
        for part in ast.walk(node)
    )


def names_given_to(call: ast.Call) -> list[str]:
    """The names that a call is given as they are."""
    return [one.id for one in (*call.args, *(word.value for word in call.keywords)) if isinstance(one, ast.Name)]


def simple_statements(function: ast.AST) -> Iterator[ast.stmt]:
    """The statements of a function, or of a file outside of functions, that have no others in them."""
    for node in ast.iter_child_nodes(function):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if isinstance(node, ast.stmt) and not any(isinstance(one, ast.stmt) for one in ast.iter_child_nodes(node)):
            yield node
        else:
            yield from simple_statements(node)
