"""What the function of a ``LambdaLR`` returns by the text: a factor, or the learning rate itself."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import parsed

_Function = ast.FunctionDef | ast.Lambda
_DEPTH = 3


class ReturnedRate(NamedTuple):
    """A place at which a function returns a product with the learning rate in it."""

    text: str
    """Of the file."""
    line: int
    end_line: int
    source: str
    rate: str
    """How the rate is called there: ``cfg.lr``."""


def given_rate(text: str, line: int, end_line: int) -> str:
    """The name that is given as ``lr`` in one of some lines: ``cfg.lr`` of ``Adam(net.parameters(), lr=cfg.lr)``."""
    tree = parsed(text)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Call) and line <= node.lineno <= end_line:
            for keyword in node.keywords:
                if keyword.arg == "lr" and isinstance(keyword.value, ast.Name | ast.Attribute):
                    return ast.unparse(keyword.value)
    return ""


def returned_rates(text: str, line: int, end_line: int, rate: str, texts: Iterable[str]) -> list[ReturnedRate]:
    """Where the function that a ``LambdaLR`` of some lines is given returns a product of the optimizer's rate.

    Empty unless that is so of everything that it returns.

    Args:
        text: Of the file that makes the scheduler.
        line: Where it does, and
        end_line: where that ends.
        rate: What the optimizer was given as ``lr``.
        texts: Those of the user's files, in which functions are looked for by their names.
    """
    tree = parsed(text)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Call) and line <= node.lineno <= end_line and _name(node.func) == "LambdaLR":
            given = [word.value for word in node.keywords if word.arg == "lr_lambda"] or node.args[1:2]
            functions: list[tuple[str, _Function]] = [(text, one) for one in given if isinstance(one, ast.Lambda)]
            functions = functions or [found for one in given for found in _functions(one, [text, *texts], _DEPTH)]
            if len(functions) == 1:
                return _rates(*functions[0], rate.rpartition(".")[2])
    return []


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _functions(given: ast.expr, texts: list[str], depth: int) -> list[tuple[str, _Function]]:
    """The functions that an expression may be: of its name, or what the function that it calls returns."""
    called = given.func if isinstance(given, ast.Call) else given
    named = [
        (text, node)
        for text in dict.fromkeys(texts)
        for node in _defined(text)
        if isinstance(node, ast.FunctionDef) and node.name == _name(called)
    ]
    if not isinstance(given, ast.Call) or not depth:
        return list(named)
    found: list[tuple[str, _Function]] = []
    for text, function in named:
        for value in _returned(function):
            inner = [node for node in ast.walk(function) if isinstance(node, ast.FunctionDef) and node is not function]
            found += [(text, value)] if isinstance(value, ast.Lambda) else []
            found += [(text, node) for node in inner if node.name == _name(value)]
    return found


def _defined(text: str) -> Iterator[ast.AST]:
    tree = parsed(text)
    yield from ast.walk(tree) if tree is not None else ()


def _returned(function: _Function) -> list[ast.expr]:
    """What a function returns, not what functions in it do."""
    if isinstance(function, ast.Lambda):
        return [function.body]
    found: list[ast.expr] = []
    todo: list[ast.AST] = list(function.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Return) and node.value is not None:
            found.append(node.value)
        elif not isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            todo += ast.iter_child_nodes(node)
    return sorted(found, key=lambda value: value.lineno)


def _rates(text: str, function: _Function, rate: str) -> list[ReturnedRate]:
    values = [_value_of(function, value) for value in _returned(function)]
    found = [(value, _factor(value, rate)) for value in values]
    if not found or not all(factor for _, factor in found):
        return []
    return [
        ReturnedRate(text, value.lineno, value.end_lineno or value.lineno, ast.unparse(value), factor)
        for value, factor in found
    ]


def _value_of(function: _Function, value: ast.expr) -> ast.expr:
    """What the name that is returned was given, where it was given something once."""
    if not isinstance(value, ast.Name):
        return value
    given = [
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and any(_name(target) == value.id for target in node.targets)
    ]
    return given[0] if len(given) == 1 else value


def _factor(value: ast.expr, rate: str) -> str:
    """The rate as a factor of a product, whatever else is in it; empty where it is divided by one, too."""
    if isinstance(value, ast.Call) and _name(value.func) in ("max", "min"):
        return next((found for one in value.args if (found := _factor(one, rate))), "")
    above, below = _sides(value)
    own = [ast.unparse(one) for one in above if _name(one) == rate]
    is_divided = any(_is_rate(node) for one in below for node in ast.walk(one))
    return own[0] if len(own) == 1 and not is_divided else ""


def _sides(value: ast.expr) -> tuple[list[ast.expr], list[ast.expr]]:
    """The factors of a product, and what it is divided by."""
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult | ast.Div):
        (above, below), (other_above, other_below) = _sides(value.left), _sides(value.right)
        if isinstance(value.op, ast.Mult):
            return above + other_above, below + other_below
        return above + other_below, below + other_above
    return [value], []


def _is_rate(node: ast.AST) -> bool:
    """Whether a name may be that of a learning rate."""
    name = _name(node) if isinstance(node, ast.expr) else ""
    return "lr" in name.lower() or "rate" in name.lower()
