"""Statements that ask whether gradients are None, rather than use them: nobody is surprised by the answer."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Literal

from gradscope.frames.syntax_trees import innermost, last_name, parsed
from gradscope.frames.values.none_provided import Provisions, is_gradient, tests_for_none

Asks = Literal["wants", "checks", "lists", "guards", ""]
"""``wants``: asserts that they are None; ``checks``: whether all or any are (``all(p.grad is None for …)``, another
``assert``); ``lists``: which of several; ``guards``: passes by those that are (``if p.grad is not None:``)."""

_QUANTIFIERS = ("all", "any", "sum")
_PASSES_BY = (ast.Continue, ast.Pass)
_TAKES_A_PART = (ast.Name, ast.Attribute, ast.Subscript, ast.Constant, ast.expr_context)
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


def asks_for_none(text: str, line: int) -> Asks:
    """How the statement on a line asks about gradients; empty where it uses them, or asks about one of them.

    Args:
        text: Source of the file.
        line: A line of the statement.
    """
    tree = parsed(text)
    if tree is None or "grad" not in text:
        return ""
    if _guards(tree, line):
        return "guards"
    statement = innermost(tree, line, ast.stmt)
    nodes = [] if statement is None else list(_own_parts(statement))
    gradients = [node for node in nodes if isinstance(node, ast.expr) and is_gradient(node)]
    if statement is None or not gradients:
        return ""
    tested = [one for node in nodes for one in tests_for_none(node) if is_gradient(one)]
    if not set(gradients) <= set(tested):
        provisions = Provisions(tree)
        provided = all(_is_of_an_item(tree, statement, one) and provisions.has(one) for one in gradients)
        return "guards" if provided else ""
    if isinstance(statement, ast.Assert):
        is_negated = any(isinstance(node, ast.Not) for node in nodes) or any(
            isinstance(node, ast.Call) and last_name(node.func) == "any" for node in nodes
        )
        wanted = [one for node in nodes for one in tests_for_none(node, ast.Is, ast.Eq)]
        return "wants" if set(gradients) <= set(wanted) and not is_negated else "checks"
    if not all(_is_of_an_item(tree, statement, one) for one in gradients):
        return ""
    quantified = (isinstance(one, ast.Call) and last_name(one.func) in _QUANTIFIERS for one in nodes)
    return "checks" if any(quantified) and not isinstance(statement, ast.If) else "lists"


def _own_parts(statement: ast.stmt) -> Iterator[ast.AST]:
    """All in a statement but the blocks of statements in it."""
    for name, value in ast.iter_fields(statement):
        for part in value if isinstance(value, list) else [value]:
            if name not in _BLOCKS and isinstance(part, ast.AST):
                yield from ast.walk(part)


def _is_of_an_item(tree: ast.Module, statement: ast.stmt, gradient: ast.expr) -> bool:
    """Whether a gradient is one of many: of what a loop goes over, or of what a function is given.

    What a function prints of what it is given may be all that somebody wants to know.
    """
    names = {one.id for one in ast.walk(gradient) if isinstance(one, ast.Name)}
    if not names.isdisjoint(_items_around(tree, gradient.lineno)):
        return True
    function = innermost(tree, statement.lineno, ast.FunctionDef, ast.AsyncFunctionDef)
    if not isinstance(function, ast.FunctionDef) or isinstance(statement, ast.Expr):
        return False
    return not names.isdisjoint({one.arg for one in function.args.args} - {"self"})


def _guards(tree: ast.AST, line: int) -> bool:
    """Whether a line uses only the gradients that there are, by an ``if`` in a loop."""
    loops = (node for node in ast.walk(tree) if isinstance(node, ast.For) and _covers(node, line))
    tests = (inner for loop in loops for inner in loop.body if isinstance(inner, ast.If) and _covers(inner.test, line))
    return any(map(_passes_by, tests))


def _items_around(tree: ast.AST, line: int) -> set[str]:
    """The names that loops, comprehensions and lambdas around a line give their items; and the parts of items."""
    names = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, (ast.For, ast.While)) and _covers(node, line):
            for part in ast.walk(node):
                if isinstance(part, ast.For) and part is node:
                    names |= _stored(part.target)
                elif isinstance(part, ast.AugAssign) and isinstance(node, ast.While):
                    names |= _stored(part.target)  # (what counts the rounds)
                elif isinstance(part, ast.Assign) and not names.isdisjoint(_roots(part.value)):
                    names |= {name for target in part.targets for name in _stored(target)}
        elif isinstance(node, (ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp)) and _covers(node, line):
            names |= {name for one in node.generators for name in _stored(one.target)}
        elif isinstance(node, ast.Lambda) and _covers(node, line):
            names |= {one.arg for one in node.args.args}
    return names


def _stored(target: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _roots(value: ast.expr) -> set[str]:
    """The names of which an expression takes a part, by attributes and indices only."""
    nodes = list(ast.walk(value))
    if isinstance(value, ast.Name) or not all(isinstance(one, _TAKES_A_PART) for one in nodes):
        return set()
    return {node.id for node in nodes if isinstance(node, ast.Name)}


def _passes_by(statement: ast.If) -> bool:
    """``if p.grad is not None: …`` without an else, or ``if p.grad is None: continue``."""
    if statement.orelse:
        return False
    if any(_there(statement.test)):
        return True
    only = statement.body[0]
    asks = isinstance(statement.test, ast.Compare) and any(map(is_gradient, tests_for_none(statement.test, ast.Is)))
    return asks and len(statement.body) == 1 and isinstance(only, _PASSES_BY)


def _there(test: ast.expr) -> Iterator[ast.expr]:
    """Gradients that a condition takes to be there: ``p.grad is not None``, also as a part of an ``and``."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        for part in test.values:
            yield from _there(part)
    elif isinstance(test, ast.Compare):
        yield from filter(is_gradient, tests_for_none(test, ast.IsNot))


def _covers(node: ast.expr | ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)
