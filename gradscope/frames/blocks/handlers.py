"""Who catches an error on its way, and whether it was asked for: what the text of the functions around it tells."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import NamedTuple

from gradscope.frames.syntax_trees import innermost, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_EXPECTS = ("raises", "assertRaises", "assertRaisesRegex", "suppress", "warns")
_ANY = ("Exception", "BaseException")


class Passed(NamedTuple):
    """A line at which an error was on its way: of the call that raised, or of a call around it."""

    text: str
    """Source of the file."""
    line: int


class Caught(NamedTuple):
    """Who caught an error."""

    step: int
    """Which of the lines it was caught at: 0 where the function of the call that raised caught it itself."""
    line: int
    """The ``except``, or the ``with`` that expects it."""
    was_asked_for: bool
    """It may have been raised on purpose, to see what can be done, or something else is done in its place."""


def caught(way: Iterable[Passed], error: str) -> Caught | None:
    """The handler that ended the way of an error; None where the text shows none.

    An error is taken to have been asked for where a ``with`` expects it, where its handler does something else in its
    place than report it, where the ``try`` is around the call alone, and where it is around a function that was handed
    over to be tried, or is one of several. It was not where the handler ends a loop of several statements, or stands in
    another function.

    Args:
        way: Where the error passed, the innermost first.
        error: The name of its class.
    """
    for step, passed in enumerate(way):
        tree = parsed(passed.text)
        around = None if tree is None else _catching(tree, passed.line, error)
        if isinstance(around, ast.With | ast.AsyncWith):
            return Caught(step, around.lineno, True)
        if tree is not None and around is not None:
            block, handler = around
            tries = _is_in_loop(block, passed.line) if step == 0 else not _tries_what_it_is_given(tree, passed.line)
            return Caught(step, handler.lineno, not (tries and _only_reports(handler)))
    return None


def _catching(
    tree: ast.Module, line: int, error: str
) -> ast.With | ast.AsyncWith | tuple[ast.Try, ast.ExceptHandler] | None:
    """The innermost ``try`` around a line, in the line's function, that catches an error, or the ``with`` that does."""
    function = innermost(tree, line, *_FUNCTIONS)
    first = function.lineno if function is not None else 0
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Try | ast.With | ast.AsyncWith)
        and node.lineno >= first
        and node.body[0].lineno <= line <= (node.body[-1].end_lineno or 0)
    ]
    for node in sorted(around, key=lambda one: one.lineno, reverse=True):
        if not isinstance(node, ast.Try):
            if any(_expects(item.context_expr) for item in node.items):
                return node
            continue
        for handler in node.handlers:
            if _takes(handler.type, error):
                if any(isinstance(one, ast.Raise) for part in handler.body for one in ast.walk(part)):
                    break
                return node, handler
    return None


def _expects(context: ast.expr) -> bool:
    called = context.func if isinstance(context, ast.Call) else None
    name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
    return name in _EXPECTS


def _takes(kind: ast.expr | None, error: str) -> bool:
    """Whether a handler is for an error: by its class's own name, or for all."""
    if kind is None:
        return True
    if isinstance(kind, ast.Tuple):
        return any(_takes(one, error) for one in kind.elts)
    return ast.unparse(kind).rpartition(".")[2] in (error, *_ANY)


def _is_in_loop(block: ast.Try, line: int) -> bool:
    """Whether a line of a ``try`` is in a loop within it, of which other statements are ended with it."""
    loops = [
        node
        for part in block.body
        for node in ast.walk(part)
        if isinstance(node, ast.For | ast.While) and node.lineno < line <= (node.end_lineno or 0)
    ]
    return any(len(loop.body) > 1 for loop in loops)


def _tries_what_it_is_given(tree: ast.Module, line: int) -> bool:
    """Whether a line calls what it was handed over: ``def attempt(call): try: call() …``.

    An argument of its function, an item of a loop, or what is found by its name: ``checks[name]()``.
    """
    function = innermost(tree, line, *_FUNCTIONS)
    around: ast.AST = tree
    names: set[str] = set()
    if isinstance(function, _FUNCTIONS):
        around, given = function, function.args
        names = {one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)} - {"self", "cls"}
    for node in ast.walk(around):
        if isinstance(node, ast.For) and node.lineno <= line <= (node.end_lineno or 0):
            names |= _names(node.target)
    calls = [node for node in ast.walk(around) if isinstance(node, ast.Call) and node.lineno == line]
    return any(
        node.func.id in names if isinstance(node.func, ast.Name) else isinstance(node.func, ast.Call | ast.Subscript)
        for node in calls
    )


def _only_reports(handler: ast.ExceptHandler) -> bool:
    """Whether a handler does nothing but tell of the error, or pass over it."""
    for statement in handler.body:
        if isinstance(statement, ast.Pass):
            continue
        if isinstance(statement, ast.Assign) and handler.name in _names(statement.value):
            continue
        if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call | ast.Constant):
            return False
    return True


def _names(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
