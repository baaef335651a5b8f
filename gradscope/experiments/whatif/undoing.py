"""Which calls stand in a program for autograd's sake, and what is left where one is dropped."""

from __future__ import annotations

import ast
from collections.abc import Collection

from gradscope.frames.statements import dotted

GRAD_MODES = ("no_grad", "inference_mode", "enable_grad", "set_grad_enabled")
_METHODS = ("detach", "detach_", "clone", "requires_grad_", "item", "retain_grad")
_FUNCTIONS = ("torch.detach", "torch.clone", "torch.detach_")
_CHECKPOINT_OPTIONS = (
    "use_reentrant",
    "preserve_rng_state",
    "context_fn",
    "determinism_check",
    "debug",
    "early_stop",
)


def is_call_of(node: ast.AST, names: Collection[str]) -> bool:
    """Whether a node calls a function of one of these names, or is its bare name (a decorator), of whatever module."""
    function = node.func if isinstance(node, ast.Call) else node
    name = dotted(function) if isinstance(function, (ast.Name, ast.Attribute)) else None
    return name is not None and name.rpartition(".")[2] in names


def taken_back(node: ast.expr, *, once: bool = False) -> ast.expr | None:
    """What is left of an expression without the call that it is: ``x`` of ``x.detach().clone()``.

    Args:
        node: The expression.
        once: Drop the outermost call of a chain alone.

    Returns:
        None where it is no such call.
    """
    inner = _inner(node)
    while inner is not None and not once:
        further = _inner(inner)
        if further is None:
            break
        inner = further
    return inner


def _inner(node: ast.expr) -> ast.expr | None:
    if isinstance(node, ast.Attribute):
        return node.value if node.attr == "data" and isinstance(node.ctx, ast.Load) else None
    if not isinstance(node, ast.Call):
        return None
    name = dotted(node.func)
    if name in _FUNCTIONS and node.args:
        return node.args[0]
    if isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS:
        return node.func.value
    if name is not None and name.rpartition(".")[2] == "checkpoint" and node.args:
        kept = [one for one in node.keywords if one.arg not in _CHECKPOINT_OPTIONS]
        return ast.copy_location(ast.Call(node.args[0], node.args[1:], kept), node)
    return None
