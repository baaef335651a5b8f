"""Attributes that tell a class whether something was done before: ``if not self.initialized: self.initialize(x)``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_KEEPS = ("get_extra_state", "set_extra_state", "state_dict", "load_state_dict", "_load_from_state_dict")
"""Methods by which a class may keep such an attribute with its state all the same."""


class FirstRunGuard(NamedTuple):
    """A plain attribute, as a class has it."""

    name: str
    """``self.initialized``"""
    begins_as: str
    """What a new object has: ``False``."""
    begins: tuple[int, int]
    """First and last line of the assignment of that."""
    is_set: tuple[int, int]
    """First and last line of the assignment that tells that it was done."""


def first_run_guard(text: str, line: int) -> FirstRunGuard | None:
    """The attribute by which the class around a line lets it run once for each object; None for none, or several.

    The attribute begins as a constant, another assignment changes it where the line runs, and an ``if`` asks for it:
    around the line, before it with a ``return``, or around the call of its method.
    """
    tree = parsed(text)
    classes = [
        node
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.ClassDef) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    if not classes:
        return None
    around = max(classes, key=lambda node: node.lineno)
    methods = [one for one in around.body if isinstance(one, _FUNCTIONS)]
    method = next((one for one in methods if one.lineno <= line <= (one.end_lineno or 0)), None)
    if method is None or method.name == "__init__" or any(one.name in _KEEPS for one in methods):
        return None
    begins, found = _beginnings(around, methods), list[FirstRunGuard]()
    for name, (value, first) in begins.items():
        block = _guarded(methods, method, name, line)
        done = next((one for one in _assigned(block, name) if ast.unparse(one) != ast.unparse(first)), None)
        if done is not None:
            found.append(FirstRunGuard(f"self.{name}", value, _lines(first), _lines(done)))
    return found[0] if len(found) == 1 else None


def _beginnings(around: ast.ClassDef, methods: list[ast.FunctionDef | ast.AsyncFunctionDef]) -> dict[str, _Begins]:
    """By attribute: the constant that a new object has, and the assignment of that."""
    found: dict[str, _Begins] = {}
    init = next((one for one in methods if one.name == "__init__"), None)
    for statement in (*around.body, *(ast.walk(init) if init is not None else ())):
        if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Constant):
            continue
        for target in statement.targets:
            is_own = isinstance(target, ast.Name) and statement in around.body
            if is_own or _is_of_self(target):
                found[ast.unparse(target).removeprefix("self.")] = ast.unparse(statement.value), statement
    return found


def _guarded(
    methods: list[ast.FunctionDef | ast.AsyncFunctionDef],
    method: ast.FunctionDef | ast.AsyncFunctionDef,
    name: str,
    line: int,
) -> list[ast.AST]:
    """What runs with a line where an attribute lets it; nothing where none asks for that."""
    blocks: list[ast.AST] = []
    for node in ast.walk(method):
        if isinstance(node, ast.If) and _asks(node, name):
            inside = [one for one in node.body if one.lineno <= line <= (one.end_lineno or 0)]
            if inside:
                blocks += node.body
            elif (node.end_lineno or 0) < line and isinstance(node.body[-1], ast.Return):
                blocks += method.body
    for node in (node for one in methods for node in ast.walk(one)):
        if isinstance(node, ast.If) and _asks(node, name) and any(_calls(one, method.name) for one in node.body):
            blocks += [*node.body, *method.body]
    return blocks


def _asks(node: ast.If, name: str) -> bool:
    return any(_is_of_self(one) and isinstance(one, ast.Attribute) and one.attr == name for one in ast.walk(node.test))


def _calls(statement: ast.stmt, method: str) -> bool:
    calls = (one.func for one in ast.walk(statement) if isinstance(one, ast.Call))
    return any(_is_of_self(one) and isinstance(one, ast.Attribute) and one.attr == method for one in calls)


def _assigned(block: list[ast.AST], name: str) -> Iterator[ast.Assign | ast.AugAssign]:
    for node in (node for statement in block for node in ast.walk(statement)):
        if isinstance(node, (ast.Assign, ast.AugAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(ast.unparse(target) == f"self.{name}" for target in targets):
                yield node


def _is_of_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


def _lines(node: ast.stmt) -> tuple[int, int]:
    return node.lineno, node.end_lineno or node.lineno


_Begins = tuple[str, ast.stmt]
