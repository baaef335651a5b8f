"""Where the source makes a number whole that multiplies something: ``step // warmup``, ``int(step / total)``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import parsed

_WHOLE = frozenset(("int", "floor", "trunc"))
_DEPTH = 3
"""Names and functions that are followed one after the other."""


class WholeNumber(NamedTuple):
    """The statement that does it."""

    line: int
    end_line: int
    source: str
    """``step // warmup``."""


def whole_number(text: str, line: int, product: str) -> WholeNumber | None:
    """Where a factor of a product is divided and made whole; None where the text does not show it.

    Args:
        text: Source of the file.
        line: A line of the statement.
        product: Source of the product: ``beta * kl``.
    """
    tree = parsed(text)
    try:
        expression = ast.parse(product.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return None
    if tree is None or not isinstance(expression, ast.BinOp):
        return None
    found = _rounded(expression)
    if found is not None:
        return WholeNumber(line, line, ast.unparse(found))
    factors = [expression.left, expression.right]
    return next((one for factor in factors for one in _behind(tree, factor, line, _DEPTH)), None)


def _rounded(expression: ast.AST) -> ast.expr | None:
    """The part of an expression that divides and makes whole."""
    for node in ast.walk(expression):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv):
            return node
        is_whole = isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in _WHOLE
        if isinstance(node, ast.expr) and is_whole and any(isinstance(one, ast.Div) for one in ast.walk(node)):
            return node
    return None


def _behind(tree: ast.Module, factor: ast.expr, line: int, depth: int) -> Iterator[WholeNumber]:
    """By the assignments to a name, and by what a function of the file returns, where there is one of that name."""
    if depth == 0:
        return
    if isinstance(factor, ast.Call):
        name = ast.unparse(factor.func).rpartition(".")[2]
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name]
        only = functions if len(functions) == 1 else []
        returns = [node for function in only for node in ast.walk(function) if isinstance(node, ast.Return)]
        statements: list[tuple[ast.stmt, ast.expr]] = [(node, node.value) for node in returns if node.value is not None]
    elif isinstance(factor, ast.Name | ast.Attribute):
        scope = _scope(tree, line) if isinstance(factor, ast.Name) else tree
        wanted = ast.unparse(factor)
        statements = [
            (node, node.value)
            for node in ast.walk(scope)
            if isinstance(node, ast.Assign) and any(ast.unparse(target) == wanted for target in node.targets)
        ]
    else:
        return
    for statement, value in statements:
        found = _rounded(value)
        if found is not None:
            yield WholeNumber(statement.lineno, statement.end_lineno or statement.lineno, ast.unparse(found))
        else:
            yield from _behind(tree, value, statement.lineno, depth - 1)


def _scope(tree: ast.Module, line: int) -> ast.AST:
    functions = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    return max(functions, key=lambda node: node.lineno, default=tree)
