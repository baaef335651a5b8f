"""Classes whose ``train()`` stands for that of ``nn.Module`` and hands the mode on to some of its modules only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed

_ALL_OF_THEM = frozenset(("children", "modules", "named_children", "named_modules", "_modules", "apply"))
"""By these a method may reach every module in it."""


class ModeOverride(NamedTuple):
    """One such method."""

    owner: str
    line: int
    """The first line of what it does."""
    end_line: int


@lru_cache(maxsize=16)
def mode_overrides(text: str) -> tuple[ModeOverride, ...]:
    """All of a file: methods that call no ``train`` of a base class and go over no list of all modules."""
    return tuple(_found(text)) if "def train(" in text else ()


def _found(text: str) -> Iterator[ModeOverride]:
    tree = parsed(text)
    owners = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)) if tree is not None else ()
    for owner in owners:
        for method in owner.body:
            if isinstance(method, ast.FunctionDef) and method.name == "train" and _sets_some_only(method):
                body = method.body[1:] if ast.get_docstring(method) is not None else method.body
                if body:
                    yield ModeOverride(owner.name, body[0].lineno, method.end_lineno or method.lineno)


def _sets_some_only(method: ast.FunctionDef) -> bool:
    for node in ast.walk(method):
        name = last_name(node) if isinstance(node, ast.Name | ast.Attribute) else ""
        if name in _ALL_OF_THEM or name == "super":
            return False
        if isinstance(node, ast.Call) and last_name(node.func) == "train" and _is_given_itself(node):
            return False
    return True


def _is_given_itself(call: ast.Call) -> bool:
    """``nn.Module.train(self, mode)``."""
    return any(isinstance(one, ast.Name) and one.id == "self" for one in call.args)
