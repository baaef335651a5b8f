"""Attributes of a module that its methods update from themselves and that are no part of its state: plain tensors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import dotted_name, last_name, parsed

_OWN_STATE = frozenset(
    ("state_dict", "get_extra_state", "_save_to_state_dict", "__getstate__", "load_state_dict", "_load_from_state_dict")
)
"""Methods by which a class may save what it is not asked for."""
_REGISTERS = frozenset(("register_buffer", "register_parameter", "Parameter", "Buffer"))
_Lines = tuple[int, int]


class PlainStatistic(NamedTuple):
    """One attribute of one class."""

    owner: str
    name: str
    made: _Lines
    """Where ``__init__`` makes it."""
    updates: tuple[_Lines, ...]
    """Where other methods give it a new value of its last one."""
    lines: _Lines
    """Of the class."""


def plain_statistics(text: str) -> list[PlainStatistic]:
    """All of a text; none of a class that registers it, or that has a say in what is saved."""
    tree = parsed(text)
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)] if tree is not None else []
    return [found for one in classes for found in _of_class(one)]


def _of_class(owner: ast.ClassDef) -> Iterator[PlainStatistic]:
    methods = {one.name: one for one in owner.body if isinstance(one, ast.FunctionDef)}
    made = methods.get("__init__")
    if made is None or "forward" not in methods or not _OWN_STATE.isdisjoint(methods):
        return
    registered = {
        one.value
        for call in ast.walk(owner)
        if isinstance(call, ast.Call) and last_name(call.func) in _REGISTERS
        for one in call.args[:1]
        if isinstance(one, ast.Constant)
    }
    others = [part for name, one in methods.items() if name != "__init__" for part in ast.walk(one)]
    for node in ast.walk(made):
        if not isinstance(node, ast.Assign) or len(node.targets) != 1 or not isinstance(node.value, ast.Call):
            continue
        target, called = dotted_name(node.targets[0]), last_name(node.value.func)
        name = target.removeprefix("self.")
        if name == target or name in registered or called in _REGISTERS or not name.isidentifier():
            continue
        updates = tuple(_lines(part) for part in others if isinstance(part, ast.stmt) and _updates(part, target))
        if updates:
            yield PlainStatistic(owner.name, name, _lines(node), updates, _lines(owner))


def _updates(statement: ast.stmt, target: str) -> bool:
    """Whether a statement gives an attribute a value that is made of its last one, or writes into it."""
    if isinstance(statement, ast.AugAssign):
        return dotted_name(statement.target) == target
    if isinstance(statement, ast.Assign):
        stores = [dotted_name(one) for one in statement.targets]
        reads = (dotted_name(part) for part in ast.walk(statement.value) if isinstance(part, ast.Attribute))
        return target in stores and target in reads
    call = statement.value if isinstance(statement, ast.Expr) else None
    while isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
        if call.func.attr.endswith("_") and dotted_name(call.func.value) == target:
            return True
        call = call.func.value
    return False


def _lines(node: ast.stmt) -> _Lines:
    return node.lineno, node.end_lineno or node.lineno
