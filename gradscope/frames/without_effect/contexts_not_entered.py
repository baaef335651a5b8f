"""Statements that are nothing but a call which makes a context manager: ``torch.no_grad()``, ``model.disabled()``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import parsed

_OF_TORCH = frozenset(("no_grad", "enable_grad", "inference_mode", "autocast"))


class NotEntered(NamedTuple):
    """One statement."""

    line: int
    end_line: int
    source: str
    """The call: ``torch.no_grad()``."""
    until: int
    """The last line of the block that it stands in; what stands behind it there runs without it."""


def contexts_not_entered(text: str) -> list[NotEntered]:
    """Those of a file, by functions of torch, or by generators of the file that are decorated with ``contextmanager``.

    The last statement of a block is left out: a page or a notebook shows what it gives.
    """
    tree = parsed(text)
    if tree is None:
        return []
    own = set(_managers(tree))
    found = []
    for node in ast.walk(tree):
        for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            statements = block if isinstance(block, list) else []
            for statement in statements[:-1]:
                if isinstance(statement, ast.Expr) and _makes(statement.value, own):
                    last, end = statements[-1], statement.end_lineno or statement.lineno
                    called = ast.unparse(statement.value)
                    found.append(NotEntered(statement.lineno, end, called, last.end_lineno or last.lineno))
    return found


def _managers(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names = [ast.unparse(one).rpartition(".")[2] for one in node.decorator_list]
            if "contextmanager" in names:
                yield node.name


def _makes(value: ast.expr, own: set[str]) -> bool:
    if not isinstance(value, ast.Call):
        return False
    called = value.func
    if isinstance(called, ast.Attribute):
        return called.attr in own or (called.attr in _OF_TORCH and ast.unparse(called.value).startswith("torch"))
    return isinstance(called, ast.Name) and (called.id in own or called.id in _OF_TORCH)
