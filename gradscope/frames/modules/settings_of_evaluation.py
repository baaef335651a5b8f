"""Settings of a module that its own run in evaluation overwrites: ``if not self.training: self.dropout_p = 0.0``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BY_NAME = ("setattr", "vars", "exec", "__dict__", "__setattr__")
"""What may set an attribute without naming it."""


class SettingOfEvaluation(NamedTuple):
    """One attribute that is a number, and that nothing sets back."""

    name: str
    """``self.dropout_p``"""
    value: str
    """What it is from the first run in evaluation on: ``0.0``."""
    function: str
    """The method, with its class: ``Attention.forward``."""
    condition: tuple[int, int]
    """First and last line of the condition; of the assignment where that has it."""
    written: tuple[int, int]
    """Likewise of the assignment."""
    read: tuple[tuple[int, int], ...]
    """Of each later statement of the method, outside any branch, that reads it."""


def settings_of_evaluation(text: str) -> Iterator[SettingOfEvaluation]:
    """All of a file in which nothing sets attributes by names that are no part of its text."""
    tree = parsed(text) if ".training" in text else None
    if tree is None or any(name in text for name in _BY_NAME):
        return
    stored: dict[str, list[ast.Attribute]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            stored.setdefault(node.attr, []).append(node)
    for around in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        init = next((one for one in around.body if isinstance(one, _FUNCTIONS) and one.name == "__init__"), None)
        for method in (one for one in around.body if isinstance(one, _FUNCTIONS) and one is not init):
            for condition, written in _written(method) if init is not None else ():
                target, value = written.targets[0], _value(written)
                if value is None or not isinstance(target, ast.Attribute) or init is None:
                    continue
                others = [one for one in stored[target.attr] if one is not target]
                begins = _beginning(tree, around, init, target.attr)
                is_set_once = len(others) == 1 and init.lineno <= others[0].lineno <= (init.end_lineno or 0)
                later = [one for one in method.body if one.lineno > written.lineno]
                read = tuple(_lines(one) for one in later if _reads(one, target.attr))
                if is_set_once and begins and value not in begins and read:
                    lines = _lines(condition.test) if isinstance(condition, ast.If) else _lines(written)
                    function = f"{around.name}.{method.name}"
                    yield SettingOfEvaluation(f"self.{target.attr}", str(value), function, lines, _lines(written), read)


def _written(method: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[ast.stmt, ast.Assign]]:
    """Assignments to one attribute that each run in evaluation makes, and what has the condition of that."""
    for statement in method.body:
        if any(isinstance(one, ast.Return) for one in ast.walk(statement)):
            return
        if isinstance(statement, ast.If):
            mode = _mode_of(statement.test)
            for one in statement.body if mode is False else statement.orelse if mode else ():
                if isinstance(one, ast.Assign) and _is_own(one):
                    yield statement, one
        elif isinstance(statement, ast.Assign) and isinstance(statement.value, ast.IfExp) and _is_own(statement):
            yield statement, statement


def _is_own(statement: ast.Assign) -> bool:
    target = statement.targets[0]
    is_of_self = isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self"
    return is_of_self and len(statement.targets) == 1


def _value(written: ast.Assign) -> float | None:
    """The number that an assignment gives in evaluation; None where it is none, or training gets another one."""
    value = written.value
    if isinstance(value, ast.IfExp):
        mode = _mode_of(value.test)
        kept, value = (value.body, value.orelse) if mode else (value.orelse, value.body)
        if mode is None or ast.unparse(kept) != ast.unparse(written.targets[0]):
            return None
    return _number(value)


def _mode_of(test: ast.expr) -> bool | None:
    """Whether a condition asks for training, or for evaluation; None for others."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = _mode_of(test.operand)
        return None if inner is None else not inner
    return True if ast.unparse(test) == "self.training" else None


def _beginning(
    tree: ast.Module, around: ast.ClassDef, init: ast.FunctionDef | ast.AsyncFunctionDef, name: str
) -> set[float]:
    """The numbers with which objects of a class begin, as ``__init__`` and its calls have them; none if not known."""
    assigned = [
        one.value
        for one in init.body
        if isinstance(one, ast.Assign) and [ast.unparse(target) for target in one.targets] == [f"self.{name}"]
    ]
    value = assigned[0] if len(assigned) == 1 else None
    if value is None or not isinstance(value, ast.Name):
        number = _number(value)
        return {number} if number is not None else set()
    names = [one.arg for one in (*init.args.posonlyargs, *init.args.args)][1:]
    defaults = dict(zip(reversed(names), reversed(init.args.defaults), strict=False))
    defaults |= {
        one.arg: given for one, given in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True) if given
    }
    found: set[float | None] = set()
    for call in ast.walk(tree):
        if isinstance(call, ast.ClassDef) and around.name in map(last_name, call.bases):
            return set()
        if isinstance(call, ast.Call) and last_name(call.func) == around.name:
            if any(isinstance(one, ast.Starred) for one in call.args) or any(one.arg is None for one in call.keywords):
                return set()
            given = dict(zip(names, call.args, strict=False)) | {one.arg: one.value for one in call.keywords if one.arg}
            found.add(_number(given.get(value.id, defaults.get(value.id))))
    numbers = {one for one in found if one is not None}
    return numbers if len(numbers) == len(found) else set()


def _number(value: ast.expr | None) -> float | None:
    is_number = isinstance(value, ast.Constant) and type(value.value) in (int, float)
    return float(value.value) if isinstance(value, ast.Constant) and is_number else None  # type: ignore[arg-type]


def _reads(statement: ast.stmt, name: str) -> bool:
    """Whether a statement computes with an attribute of self, wherever it runs."""
    if not isinstance(statement, ast.Assign | ast.Return | ast.Expr | ast.AugAssign) or statement.value is None:
        return False
    parts = [one for one in ast.walk(statement.value) if isinstance(one, ast.Call | ast.BinOp)]
    own = [f"self.{name}"]
    return any([ast.unparse(given)] == own for one in parts for given in _operands(one))


def _operands(node: ast.Call | ast.BinOp) -> list[ast.expr]:
    if isinstance(node, ast.BinOp):
        return [node.left, node.right]
    return [*node.args, *(one.value for one in node.keywords)]


def _lines(node: ast.stmt | ast.expr) -> tuple[int, int]:
    return node.lineno, node.end_lineno or node.lineno
