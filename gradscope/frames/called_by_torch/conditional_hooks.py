"""Hooks that a text registers on a tensor only where the tensor requires grad, and that keep the gradient.

``if rows.requires_grad: rows.register_hook(lambda grad: self.pending.append(grad))``; or after
``if not rows.requires_grad: return rows``. A hook that only changes the gradient is no such thing: where there is none,
nothing is missed.
"""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.frames.syntax_trees import assigned_names, last_name, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_KEEPS = frozenset(("append", "appendleft", "add", "add_", "copy_", "index_add_", "update", "setdefault", "extend"))


class ConditionalHook(NamedTuple):
    """A call that registers one."""

    name: str
    """The tensor."""
    made: tuple[int, int]
    """First and last line of the statement before that gives it this name."""
    registered: tuple[int, int]


def conditional_hooks(text: str) -> list[ConditionalHook]:
    """All of a file whose tensor gets its name in the same function."""
    tree = parsed(text) if ".register_hook" in text and ".requires_grad" in text else None
    functions = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)] if tree is not None else []
    keeping = {function.name for function in functions if _keeps(function)}
    return [hook for function in functions for hook in _of_function(function, keeping)]


def _of_function(function: ast.FunctionDef | ast.AsyncFunctionDef, keeping: set[str]) -> list[ConditionalHook]:
    found: list[ConditionalHook] = []
    for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
        if not isinstance(call.func, ast.Attribute) or call.func.attr != "register_hook" or not call.args:
            continue
        name, hook = call.func.value, call.args[0]
        does_keep = _keeps(hook) if isinstance(hook, ast.Lambda) else last_name(hook) in keeping
        if not isinstance(name, ast.Name) or not does_keep or not _is_conditional(function, call, name.id):
            continue
        before = [
            one
            for one in ast.walk(function)
            if isinstance(one, ast.Assign) and one.lineno < call.lineno and name.id in assigned_names(one)
        ]
        if before:
            last = max(before, key=lambda one: one.lineno)
            made = last.lineno, last.end_lineno or last.lineno
            found.append(ConditionalHook(name.id, made, (call.lineno, call.end_lineno or call.lineno)))
    return found


def _keeps(code: ast.AST) -> bool:
    """Whether a hook puts something where it stays."""
    for node in ast.walk(code):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _KEEPS:
            return True
        if isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Attribute | ast.Subscript) for target in targets):
                return True
    return False


def _is_conditional(function: ast.AST, call: ast.Call, name: str) -> bool:
    """Whether a call is made only where what has a name requires grad."""
    for node in ast.walk(function):
        if not isinstance(node, ast.If):
            continue
        is_inside = any(part is call for statement in node.body for part in ast.walk(statement))
        if is_inside and any(_asks(one, name) for one in _conjuncts(node.test)):
            return True
        is_negated = isinstance(node.test, ast.UnaryOp) and isinstance(node.test.op, ast.Not)
        if is_negated and _asks(node.test.operand, name) and isinstance(node.body[-1], ast.Return):  # type: ignore[attr-defined]
            return node.lineno < call.lineno
    return False


def _conjuncts(test: ast.expr) -> list[ast.expr]:
    return test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else [test]


def _asks(test: ast.expr, name: str) -> bool:
    return isinstance(test, ast.Attribute) and test.attr == "requires_grad" and last_name(test.value) == name
