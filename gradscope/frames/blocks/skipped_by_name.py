"""Loops over the parameters of a module, by name, that do something only with those whose name is a key of a dict.

``for name, p in model.named_parameters(): if name in self.shadow: self.shadow[name].lerp_(p, 0.1)``. Such a dict was
made by a loop over the names of a module too; behind a wrapper all names have a beginning more, and none is in it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed

_NAMED = ("named_parameters", "named_buffers", "state_dict")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_LEAVE = (ast.Return, ast.Raise, ast.Yield, ast.YieldFrom)


class SkippedByName(NamedTuple):
    """One condition on a name in such a loop."""

    line: int
    """Of the condition."""
    end_line: int
    test: str
    """The condition under which something is done, as the source has it."""
    keys: str
    """What the names are to be among."""
    function: str
    lines: tuple[int, int]
    """Of the function, its decorators included."""
    body: tuple[int, int]
    """What is done for the names that are."""
    made: tuple[tuple[int, int], ...]
    """The lines of the file that fill what the names are to be among, by the names of a module."""


@lru_cache(maxsize=16)
def skipped_by_name(text: str) -> tuple[SkippedByName, ...]:
    """Those of a file whose loop every call of the function gets to."""
    tree = parsed(text)
    if tree is None or not any(name in text for name in _NAMED):
        return ()
    return tuple(
        found
        for node in ast.walk(tree)
        if isinstance(node, _FUNCTIONS)
        for loop in _loops(node.body)
        for found in _of_loop(tree, node, loop)
    )


def _loops(body: list[ast.stmt]) -> Iterator[ast.For]:
    """The loops that a block gets to whenever it is run."""
    for statement in body:
        if isinstance(statement, ast.For):
            yield statement
        if isinstance(statement, ast.With):
            yield from _loops(statement.body)
        if any(isinstance(one, _LEAVE) for one in ast.walk(statement)):
            return


def _of_loop(
    tree: ast.Module, function: ast.FunctionDef | ast.AsyncFunctionDef, loop: ast.For
) -> Iterator[SkippedByName]:
    name = loop.target.elts[0] if isinstance(loop.target, ast.Tuple) and loop.target.elts else None
    guarded = _guarded(loop.body) if _is_named(loop.iter) and isinstance(name, ast.Name) else None
    if guarded is None or not isinstance(name, ast.Name):
        return
    test, keys, body = guarded
    if keys is None or test[1] != name.id or not body:
        return
    takes = (one for part in body for one in ast.walk(part) if isinstance(one, ast.Subscript))
    if not any(ast.unparse(one.value) == ast.unparse(keys) and ast.unparse(one.slice) == name.id for one in takes):
        return
    made = tuple(_made(tree, last_name(keys)))
    if made:
        first = min([function.lineno, *(one.lineno for one in function.decorator_list)])
        yield SkippedByName(
            test[0].lineno,
            test[0].end_lineno or test[0].lineno,
            f"{name.id} in {ast.unparse(keys)}",
            ast.unparse(keys),
            function.name,
            (first, function.end_lineno or first),
            (body[0].lineno, body[-1].end_lineno or body[-1].lineno),
            made,
        )


def _guarded(body: list[ast.stmt]) -> tuple[tuple[ast.expr, str], ast.expr | None, list[ast.stmt]] | None:
    """The first condition of a block on what is in something, its name, where it is to be, and what is done then."""
    for position, statement in enumerate(body):
        if not isinstance(statement, ast.If):
            continue
        tests = statement.test.values if isinstance(statement.test, ast.BoolOp) else [statement.test]
        is_all = not isinstance(statement.test, ast.BoolOp) or isinstance(statement.test.op, ast.And)
        found = next((one for one in tests if isinstance(one, ast.Compare) and len(one.ops) == 1), None)
        others = [one for one in tests if one is not found]
        if found is None or not isinstance(found.left, ast.Name):
            continue
        if isinstance(found.ops[0], ast.In) and is_all and all(_is_required(one) for one in others):
            return (statement.test, found.left.id), found.comparators[0], statement.body
        is_left = len(statement.body) == 1 and isinstance(statement.body[0], ast.Continue) and not others
        if isinstance(found.ops[0], ast.NotIn) and is_left:
            return (statement.test, found.left.id), found.comparators[0], body[position + 1 :]
    return None


def _is_required(node: ast.expr) -> bool:
    """Whether a condition is true of all that is trained: ``p.requires_grad``."""
    return isinstance(node, ast.Attribute) and node.attr == "requires_grad"


def _is_named(node: ast.expr) -> bool:
    """Whether a loop goes through the names of a module, with what is called so."""
    called = [one.func for one in ast.walk(node) if isinstance(one, ast.Call)]
    return any(isinstance(one, ast.Attribute) and one.attr in _NAMED for one in called)


def _made(tree: ast.Module, name: str) -> Iterator[tuple[int, int]]:
    """The lines that fill a dict of a name in a loop over the names of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(last_name(target) == name for target in node.targets):
            is_of_names = isinstance(node.value, ast.DictComp) and _is_named(node.value.generators[0].iter)
            if is_of_names:
                yield node.lineno, node.end_lineno or node.lineno
        if isinstance(node, ast.For) and _is_named(node.iter):
            for one in ast.walk(node):
                if isinstance(one, ast.Assign) and any(
                    isinstance(to, ast.Subscript) and last_name(to.value) == name for to in one.targets
                ):
                    yield one.lineno, one.end_lineno or one.lineno
