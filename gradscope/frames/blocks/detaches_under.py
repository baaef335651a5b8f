"""Statements that cut a name off its graph, under a condition: ``if isinstance(h, torch.Tensor): h = h.detach()``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed

_CUTS = frozenset(("detach", "detach_", "data"))
_NO_TEST = "", 0


class DetachUnder(NamedTuple):
    """One such statement."""

    line: int
    end_line: int
    test: str
    """The condition, as it is written; ``not (…)`` where it stands in the other branch; empty for none."""
    test_line: int


def detaches_under(text: str, name: str) -> list[DetachUnder]:
    """All of a file that give a name, or an attribute of that name, to what is cut off of it."""
    tree = parsed(text) if any(f".{cut}" in text for cut in _CUTS) else None
    return list(_within(tree, name, _NO_TEST)) if tree is not None else []


def _within(node: ast.AST, name: str, under: tuple[str, int]) -> Iterator[DetachUnder]:
    for field, part in ast.iter_fields(node):
        inside = under
        if isinstance(node, ast.If) and field in ("body", "orelse"):
            test = ast.unparse(node.test)
            inside = (test if field == "body" else f"not ({test})"), node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inside = _NO_TEST
        for statement in part if isinstance(part, list) else ():
            if not isinstance(statement, ast.stmt):
                continue
            if _cuts(statement, name):
                yield DetachUnder(statement.lineno, statement.end_lineno or statement.lineno, *inside)
            yield from _within(statement, name, inside)


def _cuts(statement: ast.stmt, name: str) -> bool:
    if isinstance(statement, ast.Expr):
        call = statement.value
        cuts = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "detach_"
        return cuts and _is_about(call, name)
    if not isinstance(statement, ast.Assign) or [last_name(one) for one in statement.targets] != [name]:
        return False
    attributes = {one.attr for one in ast.walk(statement.value) if isinstance(one, ast.Attribute)}
    return not attributes.isdisjoint(_CUTS) and _is_about(statement.value, name)


def _is_about(value: ast.expr, name: str) -> bool:
    return any(isinstance(one, ast.Attribute | ast.Name) and last_name(one) == name for one in ast.walk(value))
