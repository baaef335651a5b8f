"""Names that a function reads for what they were, after it has handed the same object to a call that writes it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache

from gradscope.frames.syntax_trees import assigned_names, innermost, parsed


@lru_cache(maxsize=256)
def kept_name(text: str, written: int, read: int, known: frozenset[str]) -> str:
    """The name by which a statement reads what a call before it was given; empty where there is none.

    It is the name of the call's one argument, or one that the function gave the same object before. Where the call's
    result takes that very name, or nobody takes the result, what is read is what the call made of it, as was meant.

    Args:
        text: The source of a file.
        written: A line of the call.
        read: A line of the statement that reads.
        known: Names by which it was seen to read the object that the call wrote.
    """
    tree = parsed(text)
    if tree is None:
        return ""
    function = innermost(tree, written, ast.FunctionDef, ast.AsyncFunctionDef)
    if function is None or innermost(tree, read, ast.FunctionDef, ast.AsyncFunctionDef) is not function:
        return ""
    by_line = {line: node for node in _simple(function) for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    one, other = by_line.get(written), by_line.get(read)
    if one is None or other is None or (isinstance(one, ast.Expr) and isinstance(one.value, ast.Call)):
        return ""
    for call in ast.walk(one):
        given = _given(call)
        if given is None:
            continue
        names = {
            given,
            *(name for node in _simple(function) if node.lineno < one.lineno for name in _second(node, given)),
        }
        own = {id(part) for part in ast.walk(call)}
        after = [node for node in _simple(function) if one.lineno <= node.lineno and node.lineno < other.lineno]
        names -= {name for node in after for name in assigned_names(node)}
        for part in ast.walk(other):
            if isinstance(part, ast.Name) and part.id in names and part.id in known and id(part) not in own:
                return part.id
    return ""


def _simple(function: ast.stmt) -> Iterator[ast.stmt]:
    """The statements of a function that have no others in them."""
    for node in ast.walk(function):
        if isinstance(node, ast.stmt) and not any(isinstance(one, ast.stmt) for one in ast.iter_child_nodes(node)):
            yield node


def _given(call: ast.AST) -> str | None:
    """The name that a call is given first, or whose method it is: ``act(x)``, ``F.relu(x, True)``, ``x.relu_()``."""
    if not isinstance(call, ast.Call):
        return None
    if call.args:
        return call.args[0].id if isinstance(call.args[0], ast.Name) else None
    is_method = isinstance(call.func, ast.Attribute) and call.func.attr.endswith("_")
    value = call.func.value if is_method and isinstance(call.func, ast.Attribute) else None
    return value.id if isinstance(value, ast.Name) else None


def _second(node: ast.stmt, name: str) -> list[str]:
    """The names that an assignment gives what another name holds: ``identity = x``."""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Name) or node.value.id != name:
        return []
    return assigned_names(node)
