"""A loss that is divided by the number of rounds that a condition counts: ``loss / n`` and ``if i % n == 0:``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import assigned_pairs, innermost, last_name, parsed

_CODE = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEPTH = 4
"""Names that are followed to the number that one of them is given."""


class DividedRounds(NamedTuple):
    """A condition around a step, and the number that stands in it and below the loss."""

    line: int
    end_line: int
    condition: str
    number: str
    """As it is written."""
    value: int


def divided_rounds(text: str, step: int, divided: int) -> DividedRounds | None:
    """The condition under which a line makes a step, in each round whose count divides by what divides a loss.

    Args:
        text: Source of the file.
        step: The line that makes the step.
        divided: The line that divides the loss.

    None where the two are not the same text, or where the number is not written in the file once and for all: a call
    may have set it to one, and then each round is to have a step.
    """
    tree = parsed(text)
    branch = innermost(tree, step, ast.If) if tree is not None else None
    if tree is None or not isinstance(branch, ast.If) or not _is_within(branch.body, step):
        return None
    number = _number_of(branch.test)
    divisors = {ast.unparse(one) for one in divisors_at(tree, divided)}
    if number is None or ast.unparse(number) not in divisors:
        return None
    loop = innermost(tree, branch.lineno, ast.For)
    if isinstance(loop, ast.For) and ast.unparse(number) in _parts(loop.iter):
        return None  # (rounds of so many samples each, of which the division makes the mean)
    value = value_of(tree, number, branch.lineno)
    if value is None or value < 2:
        return None
    end = branch.test.end_lineno or branch.lineno
    return DividedRounds(branch.lineno, end, ast.unparse(branch.test), ast.unparse(number), value)


def _parts(value: ast.expr) -> set[str]:
    return {ast.unparse(one) for one in ast.walk(value) if isinstance(one, ast.expr)}


def _is_within(body: list[ast.stmt], line: int) -> bool:
    return any(one.lineno <= line <= (one.end_lineno or one.lineno) for one in body)


def _number_of(test: ast.expr) -> ast.expr | None:
    """``n`` of ``i % n == 0`` and of ``not i % n``."""
    asked = test.operand if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) else None
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
        asked = test.left
    is_rest = isinstance(asked, ast.BinOp) and isinstance(asked.op, ast.Mod)
    return asked.right if is_rest and isinstance(asked, ast.BinOp) else None


def divisors_at(tree: ast.Module, line: int) -> Iterator[ast.expr]:
    """What the statement at a line divides by."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.BinOp | ast.AugAssign) or not isinstance(node.op, ast.Div):
            continue
        if node.lineno <= line <= (node.end_lineno or node.lineno):
            yield node.right if isinstance(node, ast.BinOp) else node.value


def value_of(tree: ast.Module, number: ast.expr, line: int, depth: int = 0) -> int | None:
    """What a number is, where it is written there, or is the only value that the file gives its name."""
    if isinstance(number, ast.Constant):
        return number.value if type(number.value) is int else None
    name = last_name(number)
    if not name or depth > _DEPTH or _changes(tree, name):
        return None
    function = innermost(tree, line, *_CODE)
    if isinstance(number, ast.Name) and isinstance(function, _CODE) and name in _arguments(function):
        given = _given(tree, function, name)
    else:
        given = [
            value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            for target, value in assigned_pairs(node)
            if last_name(target) == name and isinstance(target, ast.Name | type(number))
        ]
        keywords = [node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == name]
        if len(given) != 1 or (keywords and isinstance(number, ast.Attribute) and isinstance(given[0], ast.Constant)):
            return None
    values = {value_of(tree, one, one.lineno, depth + 1) if one is not None else None for one in given}
    return values.pop() if len(values) == 1 else None


def _arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    arguments = function.args
    return [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def _given(
    tree: ast.Module, function: ast.FunctionDef | ast.AsyncFunctionDef, name: str
) -> list[ast.expr] | list[None]:
    """What the calls of a function give an argument, or its default; None for what is not known."""
    arguments, owner = function.args, innermost(tree, function.lineno, ast.ClassDef)
    is_method = isinstance(owner, ast.ClassDef) and function in owner.body
    called = owner.name if isinstance(owner, ast.ClassDef) and function.name == "__init__" else function.name
    positional = [one.arg for one in (*arguments.posonlyargs, *arguments.args)]
    defaults = dict(zip(positional[::-1], arguments.defaults[::-1], strict=False))
    defaults |= {
        one.arg: value for one, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if value
    }
    position = positional.index(name) - is_method if name in positional else len(positional)
    found: list[ast.expr] = []
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or last_name(call.func) != called:
            continue
        if any(isinstance(one, ast.Starred) for one in call.args) or any(one.arg is None for one in call.keywords):
            return [None]
        by_name = [one.value for one in call.keywords if one.arg == name]
        given = by_name or call.args[position : position + 1] or [defaults[name]] * (name in defaults)
        if not given:
            return [None]
        found += given
    return found or [None]


def _changes(tree: ast.Module, name: str) -> bool:
    """Whether a text may give a name, or an attribute so called, values of which it does not show all."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AugAssign | ast.NamedExpr | ast.For | ast.comprehension):
            targets: list[ast.AST] = [node.target]
        elif isinstance(node, ast.Assign):
            pairs = (target for target, _ in assigned_pairs(node))
            targets = [target for target in pairs if isinstance(target, ast.Tuple | ast.List | ast.Starred)]
        elif isinstance(node, ast.Global | ast.Nonlocal) and name in node.names:
            return True
        else:
            targets = []
        if any(last_name(one) == name for each in targets for one in ast.walk(each) if isinstance(one, ast.expr)):
            return True
    return False
