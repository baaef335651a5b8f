"""Hooks that a text registers on nodes of the graph: ``h.grad_fn.register_hook(f)``, ``h.grad_fn.register_prehook(f)``.

torch's nodes are made in C++, so that nothing is seen of it when it happens.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.called_by_torch.hook_source import HookSource
from gradscope.frames.syntax_trees import dotted_name, last_name, parsed

_METHODS = ("register_hook", "register_prehook")
_CODE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class NodeHook(NamedTuple):
    """One call that registers such a hook."""

    line: int
    end_line: int
    tensor: str
    """What the text calls the tensor whose node it is."""
    function: str
    """The function around the call; empty for none."""
    name: str
    """The hook's; ``<lambda>``."""
    first: int
    """The first line of the hook's code; 0 where it is in no function of the text."""


@lru_cache(maxsize=16)
def node_hooks(text: str) -> tuple[NodeHook, ...]:
    """Those of a text, in order."""
    tree = parsed(text) if "grad_fn" in text and "register_" in text else None
    return tuple(_found(tree)) if tree is not None else ()


def source_of(text: str, hook: NodeHook) -> HookSource:
    """What the hook's source says."""
    return HookSource(text, hook.first, hook.name)


def _found(tree: ast.Module) -> Iterator[NodeHook]:
    above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and last_name(node.func) in _METHODS]
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    # ``node = h.grad_fn``
    nodes = {
        last_name(one.targets[0]): dotted_name(one.value.value)
        for one in ast.walk(tree)
        if isinstance(one, ast.Assign) and isinstance(one.value, ast.Attribute) and one.value.attr == "grad_fn"
    }
    for call in calls:
        receiver = call.func.value if isinstance(call.func, ast.Attribute) else None
        is_node = isinstance(receiver, ast.Attribute) and receiver.attr == "grad_fn"
        if isinstance(receiver, ast.Attribute) and is_node:
            tensor = dotted_name(receiver.value)
        else:
            tensor = nodes.get(last_name(receiver), "") if receiver is not None else ""
        if not tensor or not call.args:
            continue
        hook: ast.FunctionDef | ast.Lambda | None = call.args[0] if isinstance(call.args[0], ast.Lambda) else None
        hook = hook or functions.get(last_name(call.args[0]))
        name = "<lambda>" if isinstance(hook, ast.Lambda) else last_name(call.args[0])
        around: ast.AST | None = above.get(call)
        while around is not None and not isinstance(around, _CODE):
            around = above.get(around)
        first = _first_line(hook) if hook is not None else 0
        yield NodeHook(call.lineno, call.end_lineno or call.lineno, tensor, getattr(around, "name", ""), name, first)


def _first_line(code: ast.FunctionDef | ast.Lambda) -> int:
    """The line at which a function begins, with its decorators."""
    decorators = code.decorator_list if isinstance(code, ast.FunctionDef) else []
    return min(code.lineno, *(one.lineno for one in decorators)) if decorators else code.lineno
