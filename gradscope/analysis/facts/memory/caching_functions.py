"""Functions that keep what they compute, as the source says.

``if key not in cache: cache[key] = …`` before ``return cache[key]``, or a decorator of functools.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.frames.names.caching_decorators import caching_decorators
from gradscope.frames.syntax_trees import innermost, parsed

_Where = tuple[int, int, str]
"""First and last line, and the function's name."""


def caching_lines(text: str, statement: str) -> list[_Where]:
    """Where functions that a statement names keep their result for later calls.

    Args:
        text: Source of the file.
        statement: Source of the statement; only functions of the file whose name it calls or reads are looked at.
    """
    try:
        tree, called = ast.parse(text), ast.parse(statement.strip().rstrip(":"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    names = {node.attr for node in ast.walk(called) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(called) if isinstance(node, ast.Name)}
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in names]
    return [where for function in functions for where in _kept(function)]


def caches_around(text: str, line: int, outside: int) -> list[_Where]:
    """Where the innermost function around a line keeps its result, or where another keeps what that one returns.

    Args:
        text: Source of the file.
        line: The line.
        outside: A line of the file that is in none of such functions; 0 for one of another file.
    """
    tree = parsed(text)
    function = innermost(tree, line, ast.FunctionDef) if tree is not None else None
    if tree is None or not isinstance(function, ast.FunctionDef):
        return []
    if not _has_line(function, outside) and (own := list(_kept(function))):
        return own
    return [
        where
        for other in ast.walk(tree)
        if isinstance(other, ast.FunctionDef) and other is not function and not _has_line(other, outside)
        for where in _kept(other, of=function.name)
    ]


def _has_line(function: ast.FunctionDef, line: int) -> bool:
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    return first <= line <= (function.end_lineno or function.lineno)


def _kept(function: ast.FunctionDef, of: str = "") -> Iterator[_Where]:
    """Where a function keeps its result; what another returns, where that is named."""
    for decorator in caching_decorators(function) if not of or _returns_call(function, of) else ():
        yield decorator.lineno, decorator.lineno, function.name
    returned = {ast.unparse(node.value) for node in ast.walk(function) if isinstance(node, ast.Return) and node.value}
    for guard in ast.walk(function):
        if not isinstance(guard, ast.If):
            continue
        for node in guard.body:
            if not isinstance(node, ast.Assign) or (of and not _calls(node.value, of)):
                continue
            for target in node.targets:
                is_kept = isinstance(target, (ast.Subscript, ast.Attribute)) and ast.unparse(target) in returned
                if is_kept:
                    yield node.lineno, node.end_lineno or node.lineno, function.name


def _returns_call(function: ast.FunctionDef, name: str) -> bool:
    returned = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value]
    return any(_calls(value, name) for value in returned)


def _calls(value: ast.expr, name: str) -> bool:
    called = [node.func for node in ast.walk(value) if isinstance(node, ast.Call)]
    return name in [getattr(one, "attr", getattr(one, "id", "")) for one in called]
