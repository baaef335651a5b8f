"""Where a function called in forward puts tensors that only a backward hook takes out again.

``module.activations.append(inputs[0].detach())`` in a forward hook, ``module.activations.pop()`` in a backward hook.
"""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed

_HOOKS = frozenset(
    ("register_full_backward_hook", "register_backward_hook", "register_full_backward_pre_hook", "register_hook")
)
_TAKES = frozenset(("pop",))
_PUTS = frozenset(("append",))
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class KeptForBackward(NamedTuple):
    """A statement that puts something into a list, and what takes it out."""

    line: int
    end_line: int
    function: str
    """The function around it."""
    store: str
    """What the list is called there: ``module.activations``."""
    taken_by: str
    """The backward hook."""


def kept_for_backward(text: str) -> list[KeptForBackward]:
    """All of a file, of lists that nothing but backward hooks takes anything from."""
    tree = parsed(text) if any(name in text for name in _HOOKS) else None
    if tree is None:
        return []
    hooks = {
        last_name(call.args[0])
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and last_name(call.func) in _HOOKS and call.args
    }
    functions = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)]
    taken: dict[str, set[str]] = {}
    for function in functions:
        for node in ast.walk(function):
            is_last = isinstance(node, ast.Call) and not node.args
            if is_last and (store := _store_of(node, _TAKES)):
                taken.setdefault(_called(store), set()).add(function.name)
    others = {name for node in ast.walk(tree) if (name := _emptied(node))}
    found: list[KeptForBackward] = []
    for function in functions:
        for statement in (one for one in ast.walk(function) if isinstance(one, ast.Expr)):
            store = _store_of(statement.value, _PUTS)
            takers = taken.get(_called(store), set()) if store is not None else set()
            if store is None or len(takers) != 1 or not takers <= hooks - {function.name} or _called(store) in others:
                continue
            end = statement.end_lineno or statement.lineno
            (taker,) = takers
            found.append(KeptForBackward(statement.lineno, end, function.name, ast.unparse(store), taker))
    return found


def _store_of(node: ast.AST, methods: frozenset[str]) -> ast.expr | None:
    """What a call of one of some methods is made on, an attribute or an item of one; None for anything else."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in methods:
        return None
    return node.func.value if _called(node.func.value) else None


def _called(store: ast.expr) -> str:
    """The attribute: ``inputs`` of ``self.inputs[module]``; empty for a plain name."""
    while isinstance(store, ast.Subscript):
        store = store.value
    return store.attr if isinstance(store, ast.Attribute) else ""


def _emptied(node: ast.AST) -> str:
    """What a node empties or cuts: ``x.activations.clear()``, ``del x.activations[:]``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("clear", "remove"):
        return _called(node.func.value)
    return _called(node.targets[0]) if isinstance(node, ast.Delete) else ""
