"""What a hook computes of its arguments under a name of its own that nothing reads: it was to be returned."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import assigned_names

_ELSEWHERE = (ast.Global, ast.Nonlocal, ast.For, ast.While, ast.Yield, ast.YieldFrom)
"""What hands a value on otherwise than by a return, or reads it in an earlier line."""
_EACH = frozenset(
    """
    clamp clip clamp_min clamp_max nan_to_num masked_fill where mul div add sub neg sign tanh lerp multiply divide
    true_divide negative subtract hardshrink softshrink threshold dropout normalize maximum minimum __mul__ __truediv__
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Calls that give a tensor like the one that they are given: what could take its place."""
_LOOKS_EVERYWHERE = frozenset(("locals", "eval", "exec", "vars"))


def value_not_returned(function: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[int, int, str] | None:
    """First and last line of the last such computation, with the name; None where there is none, or it is read.

    Writing into the value (``noisy[0] = 0``, ``noisy.clamp_(0, 1)``) is no reading: it was to be more than that.
    """
    nodes = list(ast.walk(function))
    loads = [node for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    if any(isinstance(node, _ELSEWHERE) for node in nodes) or any(one.id in _LOOKS_EVERYWHERE for one in loads):
        return None
    written = {id(one) for node in nodes for one in _written_by(node)}
    arguments = {one.arg for one in _arguments(function)}
    derived, found = set(arguments), None
    for node in sorted((one for one in nodes if isinstance(one, ast.Assign)), key=lambda one: one.lineno):
        if not derived & {one.id for one in ast.walk(node.value) if isinstance(one, ast.Name)}:
            continue
        derived |= set(assigned_names(node))
        target, last = node.targets[0], node.end_lineno or node.lineno
        if len(node.targets) != 1 or not isinstance(target, ast.Name) or target.id.startswith("_"):
            continue
        later = [one for one in loads if one.id == target.id and one.lineno > last and id(one) not in written]
        is_computed = isinstance(node.value, ast.BinOp | ast.UnaryOp | ast.Call | ast.Tuple | ast.IfExp)
        if is_computed and target.id not in arguments and not later:
            found = node.lineno, last, target.id
    return found


def gradient_not_returned(function: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[int, int, str] | None:
    """Lines of what gives another gradient for the one that a hook is given, and is dropped there; with its name.

    The name is empty where there is none: ``torch.clamp(grad, -1, 1)``, all of a statement.
    """
    derived = {one.arg for one in _arguments(function)}
    for node in ast.walk(function):
        if isinstance(node, ast.Expr) and _is_like_one_of(node.value, derived):
            return node.lineno, node.end_lineno or node.lineno, ""
    found = value_not_returned(function)
    for node in ast.walk(function) if found is not None else ():
        if isinstance(node, ast.Assign) and found is not None and node.lineno == found[0]:
            return found if _is_like_one_of(node.value, derived) else None
    return None


def _is_like_one_of(value: ast.expr, names: set[str]) -> bool:
    """Whether an expression changes each element of what has one of some names, and gives the result."""
    if isinstance(value, ast.BinOp):
        return any(_is_like_one_of(one, names) or _is_one_of(one, names) for one in (value.left, value.right))
    if not isinstance(value, ast.Call) or any(one.arg == "out" for one in value.keywords):
        return False
    called = value.func
    if not isinstance(called, ast.Attribute) or called.attr not in _EACH:
        return False
    taken = [called.value, *value.args]
    return any(_is_one_of(one, names) or _is_like_one_of(one, names) for one in taken)


def _is_one_of(value: ast.expr, names: set[str]) -> bool:
    return isinstance(value, ast.Name) and value.id in names


def _arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    of = function.args
    found = [*of.posonlyargs, *of.args, *of.kwonlyargs, *(one for one in (of.vararg, of.kwarg) if one is not None)]
    return found[1:] if found and found[0].arg in ("self", "cls") else found


def _written_by(node: ast.AST) -> list[ast.expr]:
    """The names that a statement does no more with than write into what they hold."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
        called = node.value.func
        return [called.value] if called.attr.endswith("_") and not called.attr.endswith("__") else []
    if isinstance(node, ast.Assign):
        return [target.value for target in node.targets if isinstance(target, ast.Subscript)]
    return []
