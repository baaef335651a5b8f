"""Where a text lets parameters require grad by what their names begin with, or by the names themselves.

``for name, p in model.named_parameters(): if name.startswith(prefixes): p.requires_grad = True``, and the other way
round: ``if not name.startswith("layer4"): p.requires_grad = False``. A test for a part (``"layer4" in name``) does not
depend on what a model is wrapped in.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import parsed

_WRAPPERS = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "DDP": "module",
    "compile": "_orig_mod",
}
"""What puts a model behind a name of its own."""


class Unfreezing(NamedTuple):
    """One test of names."""

    line: int
    end_line: int
    """Of the test."""
    sets: int
    """The line that sets requires_grad."""
    sets_true: bool
    """Where the test holds; else it switches requires_grad off where it does not."""
    of: str
    """Whose parameters, as the text has it."""
    behind: str
    """What all names begin with as the text wraps the model: ``module``; empty where it does not."""
    names: tuple[tuple[str, int], ...]
    """What names are to begin with, or to be, and the lines that say so."""


def unfreezings(text: str) -> list[Unfreezing]:
    """All tests of a file of which the text tells what they look for, in functions that it calls."""
    if "named_parameters" not in text or "requires_grad" not in text:
        return []
    tree = parsed(text)
    return [*_found(tree)] if tree is not None else []


def _found(tree: ast.Module) -> Iterator[Unfreezing]:
    wrapped = {
        ast.unparse(node.targets[0]): _WRAPPERS[_last(node.value.func)]
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _last(node.value.func) in _WRAPPERS
    }
    for around, loop in _loops(tree):
        called = loop.iter.func if isinstance(loop.iter, ast.Call) else None
        names = [one.id for one in getattr(loop.target, "elts", ()) if isinstance(one, ast.Name)]
        if not isinstance(called, ast.Attribute) or called.attr != "named_parameters" or len(names) != 2:
            continue
        of = ast.unparse(called.value)
        for test, statement, sets_true in _tests(loop, *names):
            sought = tuple(dict.fromkeys(_sought(tree, around, test)))
            end, behind = test.end_lineno or test.lineno, wrapped.get(of, "")
            yield Unfreezing(test.lineno, end, statement.lineno, sets_true, of, behind, sought)


def _loops(tree: ast.Module) -> Iterator[tuple[tuple[str, ...], ast.For]]:
    """Each loop, with the names of the class and the function around it; not those that the text does not call."""
    todo: list[tuple[tuple[str, ...], ast.AST]] = [((), tree)]
    calls = {_last(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    while todo:
        around, node = todo.pop()
        if isinstance(node, ast.For):
            yield around, node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not node.name.startswith("__") and node.name not in calls:
                continue
            around = (*around, node.name)
        elif isinstance(node, ast.ClassDef):
            around = (*around, node.name)
        todo += [(around, one) for one in ast.iter_child_nodes(node)]


def _tests(loop: ast.For, name: str, parameter: str) -> Iterator[tuple[ast.expr, ast.stmt, bool]]:
    """Tests of the name, with what sets requires_grad by them, and whether that is for the names that are sought."""
    for node in ast.walk(loop):
        if isinstance(node, ast.If):
            is_not = isinstance(node.test, ast.UnaryOp) and isinstance(node.test.op, ast.Not)
            for statement in node.body:
                value = _sets(statement, parameter)
                constant = value.value if isinstance(value, ast.Constant) else None
                if constant is (not is_not) and _is_of_name(node.test, name):
                    yield node.test, statement, not is_not
        if isinstance(node, ast.Assign):
            given = _sets(node, parameter)
            if given is not None and not isinstance(given, ast.UnaryOp) and _is_of_name(given, name):
                yield given, node, True


def _sets(statement: ast.stmt, parameter: str) -> ast.expr | None:
    """What a statement sets requires_grad of the parameter to."""
    if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == f"{parameter}.requires_grad":
        return statement.value
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.Call) and ast.unparse(call.func) == f"{parameter}.requires_grad_":
        return call.args[0] if call.args else ast.Constant(value=True)
    return None


def _is_of_name(test: ast.expr, name: str) -> bool:
    """Whether a test is of the whole name or its beginning, and not of a part of it."""
    found = False
    for node in ast.walk(test):
        if isinstance(node, ast.Compare):
            is_name = isinstance(node.left, ast.Name) and node.left.id == name
            if any(isinstance(one, ast.Name) and one.id == name for one in node.comparators):
                return False
            found |= is_name and isinstance(node.ops[0], ast.Eq | ast.In)
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and ast.unparse(called.value) == name:
            if called.attr != "startswith":
                return False
            found = True
    return found


def _sought(tree: ast.Module, around: tuple[str, ...], test: ast.expr) -> Iterator[tuple[str, int]]:
    """Texts in a test, in the constants that it reads, and in what the function or the class around it is given."""
    read = {node.id for node in ast.walk(test) if isinstance(node, ast.Name)}
    parts: list[ast.AST] = [test]
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and not read.isdisjoint(map(ast.unparse, node.targets)):
            parts.append(node.value)
        elif isinstance(node, ast.Call) and _last(node.func) in around:
            parts += [*node.args, *(one.value for one in node.keywords)]
    for part in parts:
        for node in ast.walk(part):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
                yield node.value, node.lineno


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
