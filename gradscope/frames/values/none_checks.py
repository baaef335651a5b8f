"""Statements that ask whether gradients are None, rather than use them: nobody is surprised by the answer."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Literal

from gradscope.frames.syntax_trees import innermost, parsed

Asks = Literal["checks", "lists", "guards", ""]
"""``checks``: whether all or any are (``all(p.grad is None for …)``, an ``assert``); ``lists``: which of several;
``guards``: passes by those that are (``if p.grad is not None:``)."""

_QUANTIFIERS = ("all", "any", "sum")
_PASSES_BY = (ast.Continue, ast.Pass)


def asks_for_none(text: str, line: int) -> Asks:
    """How the statement on a line asks about gradients; empty where it uses them, or asks about one of them.

    Args:
        text: Source of the file.
        line: A line of the statement.
    """
    tree = parsed(text)
    if tree is None or ".grad" not in text:
        return ""
    if _guards(tree, line) or _chooses_for_each(tree, line):
        return "guards"
    statement = innermost(tree, line, ast.stmt)
    if isinstance(statement, ast.If):
        return "lists" if _is_asked_of_each(tree, statement) else ""
    if statement is None or isinstance(statement, (ast.FunctionDef, ast.For, ast.While, ast.With, ast.ClassDef)):
        return ""
    nodes = list(ast.walk(statement))
    compared = {node.left for node in nodes if isinstance(node, ast.Compare) and _compares(node, ast.Is, ast.IsNot)}
    gradients = {node for node in nodes if _is_gradient(node)}
    within = {
        inner
        for node in nodes
        if isinstance(node, (ast.GeneratorExp, ast.ListComp, ast.SetComp))
        for inner in ast.walk(node)
    }
    if not gradients or not gradients <= compared:
        return ""
    if isinstance(statement, ast.Assert):
        return "checks"
    if not gradients <= within:
        return ""
    quantified = any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _QUANTIFIERS
        for node in nodes
    )
    return "checks" if quantified else "lists"


def _is_asked_of_each(tree: ast.AST, statement: ast.If) -> bool:
    """Whether an ``if`` asks it of each item of a loop around it, and looks at no gradient otherwise."""
    nodes = list(ast.walk(statement.test))
    gradients = [node for node in nodes if _is_gradient(node)]
    compared = [node.left for node in nodes if isinstance(node, ast.Compare) and _compares(node, ast.Is, ast.IsNot)]
    asked = {one.value.id for one in compared if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name)}
    if not gradients or len(gradients) > len(compared) or len(asked) < len(set(map(ast.unparse, compared))):
        return False
    loops = (node for node in ast.walk(tree) if isinstance(node, ast.For) and statement in ast.walk(node))
    items = {node.id for loop in loops for node in ast.walk(loop.target) if isinstance(node, ast.Name)}
    return asked <= items


def _guards(tree: ast.AST, line: int) -> bool:
    """Whether a line uses only the gradients that there are, by an ``if`` in a loop or in a comprehension."""
    for node in ast.walk(tree):
        if isinstance(node, ast.For) and node.lineno < line <= (node.end_lineno or node.lineno):
            if any(_passes_by(inner) and _covers(inner.test, line) for inner in node.body if isinstance(inner, ast.If)):
                return True
        elif isinstance(node, (ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp)) and _covers(node, line):
            guarded = {ast.unparse(left) for test in _conditions(node) for left in _there(test)}
            used = {ast.unparse(inner) for inner in _elements(node) if _is_gradient(inner)}
            if used and used <= guarded:
                return True
    return False


def _chooses_for_each(tree: ast.Module, line: int) -> bool:
    """Whether a line says something else of the items of a loop that have no gradient: ``0 if p.grad is None else …``.

    All gradients of the statement are asked so.
    """
    choices = [node for node in ast.walk(tree) if isinstance(node, ast.IfExp) and _covers(node, line)]
    asked, within = set[str](), set[ast.AST]()
    for choice in choices:
        nodes = [node for node in ast.walk(choice.test) if isinstance(node, ast.Compare)]
        compared = [node.left for node in nodes if _compares(node, ast.Is, ast.IsNot)]
        names = {one.value.id for one in compared if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name)}
        if compared and len(names) == len({ast.unparse(one) for one in compared}):
            asked |= names
            within.update(ast.walk(choice))
    statement = innermost(tree, line, ast.stmt)
    if not asked or statement is None or any(_is_gradient(node) and node not in within for node in ast.walk(statement)):
        return False
    return asked <= _items_around(tree, line)


def _items_around(tree: ast.AST, line: int) -> set[str]:
    """The names that loops and comprehensions around a line give their items."""
    targets = [
        node.target
        for node in ast.walk(tree)
        if isinstance(node, ast.For) and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]
    for node in ast.walk(tree):
        if isinstance(node, (ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp)) and _covers(node, line):
            targets += [one.target for one in node.generators]
    return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}


def _passes_by(statement: ast.If) -> bool:
    """``if p.grad is not None: …`` without an else, or ``if p.grad is None: continue``."""
    if statement.orelse:
        return False
    if any(_there(statement.test)):
        return True
    only = statement.body[0]
    return _compares(statement.test, ast.Is) and len(statement.body) == 1 and isinstance(only, _PASSES_BY)


def _there(test: ast.expr) -> Iterator[ast.expr]:
    """Gradients that a condition takes to be there: ``p.grad is not None``, also as a part of an ``and``."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        for part in test.values:
            yield from _there(part)
    elif isinstance(test, ast.Compare) and _compares(test, ast.IsNot):
        yield test.left


def _conditions(node: ast.AST) -> Iterator[ast.expr]:
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.comprehension):
            yield from inner.ifs


def _elements(node: ast.AST) -> Iterator[ast.AST]:
    """All in what a comprehension gives."""
    for inner in ast.iter_child_nodes(node):
        if not isinstance(inner, ast.comprehension):
            yield from ast.walk(inner)


def _compares(node: ast.AST, *operators: type[ast.cmpop]) -> bool:
    """Whether it compares a gradient, and nothing else, with None."""
    return (
        isinstance(node, ast.Compare)
        and len(node.ops) == 1
        and isinstance(node.ops[0], operators)
        and isinstance(node.comparators[0], ast.Constant)
        and node.comparators[0].value is None
        and _is_gradient(node.left)
    )


def _is_gradient(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "grad"


def _covers(node: ast.expr, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)
