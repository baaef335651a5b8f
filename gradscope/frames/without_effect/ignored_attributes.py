"""Assignments to attributes that torch ignores: ``p.require_grad = False``, ``module.requires_grad = False``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import dotted_name, last_name, parsed

_MISSPELT = frozenset(
    f"{first}{last}"
    for first in ("require_", "required_", "requires_", "requre_", "requries_", "reqires_", "need_", "needs_")
    for last in ("grad", "grads", "gradient", "gradients")
) - {"requires_grad"}
_PARAMETERS = frozenset(("parameters", "named_parameters"))
_MODULES = frozenset(("children", "named_children", "modules", "named_modules"))


class Ignored(NamedTuple):
    """One assignment."""

    line: int
    end_line: int
    function: str
    """The function that it is in; empty at the top level."""
    owner: str
    """Text of what the attribute is set on, subscripts written as attributes: ``net.0``."""
    attribute: str
    value: bool
    over: str
    """``parameters`` or ``modules``, where the owner is the variable of a loop over those; else empty."""


def ignored_attributes(text: str) -> list[Ignored]:
    """Assignments of True or False to a misspelt ``requires_grad`` of anything, or to ``requires_grad`` itself.

    Whether what an attribute is set on is a tensor or a module the text says of loop variables only.
    """
    tree = parsed(text)
    found = [] if tree is None or "_grad" not in text else list(_within(tree, "", {}))
    return [one for one in found if f"self.{one.attribute}" not in text]  # (a class may have one of that name)


def defines_requires_grad(text: str) -> bool:
    """Whether a class of a file gives ``requires_grad`` a meaning of its own."""
    tree = parsed(text)
    return tree is not None and any(
        isinstance(node, ast.FunctionDef) and node.name in ("requires_grad", "__setattr__") for node in ast.walk(tree)
    )


def is_called(text: str, function: str, *, always: bool = False) -> bool:
    """Whether a file's text has a call of a function or method of some name.

    Args:
        text: Of the file.
        function: Its name.
        always: One that stands behind no condition.
    """
    tree = parsed(text)
    nodes = () if tree is None else _unconditional(tree) if always else ast.walk(tree)
    return any(isinstance(node, ast.Call) and last_name(node.func) == function for node in nodes)


def _unconditional(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.If | ast.IfExp | ast.BoolOp | ast.Try | ast.Match):
            yield from _unconditional(child)


class _Looped(NamedTuple):
    """What a loop goes over."""

    over: str = ""
    """``parameters`` or ``modules``, where it asks for those."""
    held: str = ""
    """What has a name otherwise: ``self.backbone``."""


def _within(node: ast.AST, function: str, loops: dict[str, _Looped]) -> Iterator[Ignored]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _within(child, child.name, {})
        elif isinstance(child, ast.For):
            yield from _within(child, function, loops | _looped(child))
        elif isinstance(child, ast.Assign):
            yield from _assigned(child, function, loops)
        else:
            yield from _within(child, function, loops)


def _looped(loop: ast.For) -> dict[str, _Looped]:
    """The last variable of a loop over parameters or modules, or over what has a name, and what it stands for."""
    if held := dotted_name(loop.iter.value if isinstance(loop.iter, ast.Subscript) else loop.iter):
        return {loop.target.id: _Looped(held=held)} if isinstance(loop.target, ast.Name) else {}
    calls = [node.func for node in ast.walk(loop.iter) if isinstance(node, ast.Call)]
    called = {function.attr for function in calls if isinstance(function, ast.Attribute)}
    over = "parameters" if called & _PARAMETERS else "modules" if called & _MODULES else ""
    target = loop.target.elts[-1] if isinstance(loop.target, ast.Tuple) else loop.target
    return {target.id: _Looped(over)} if isinstance(target, ast.Name) else {}


def _assigned(statement: ast.Assign, function: str, loops: dict[str, _Looped]) -> Iterator[Ignored]:
    target, value = statement.targets[0], statement.value
    if not isinstance(target, ast.Attribute) or not isinstance(value, ast.Constant) or type(value.value) is not bool:
        return
    owner = ast.unparse(target.value)
    over, held = loops.get(owner, _Looped())
    owner = held or owner
    if target.attr in _MISSPELT or (target.attr == "requires_grad" and over != "parameters"):
        path = owner.replace("[", ".").replace("]", "")
        end = statement.end_lineno or statement.lineno
        yield Ignored(statement.lineno, end, function, path, target.attr, value.value, over)
