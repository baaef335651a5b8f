"""Gradients that a backward keeps itself, on an object that its ctx has, and sets anew each time that it runs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.function_sources import Lines, WrittenBackward, attribute_of
from gradscope.frames.syntax_trees import own_parts

_GRADIENT = re.compile(r"((main|master|weight|own|w)_?)?grad(ient)?s?(_?(w|weight|sum|acc|buffer))?")
"""What an attribute is called that keeps a gradient; not one that is for looking at: ``grad_norm``, ``last_grad``."""


class OverwrittenGrad(NamedTuple):
    """One statement."""

    lines: Lines
    target: str
    """What it sets: ``ctx.store.grad``."""
    attribute: str


def overwritten_grads(written: WrittenBackward, text: str) -> list[OverwrittenGrad]:
    """The statements of a backward that set such a gradient; nothing where it reads what it sets.

    Args:
        written: The backward.
        text: Of its file, in which something else has to read that attribute.
    """
    definition = written.definition
    context = definition.args.args[0].arg if definition.args.args else ""
    parts = list(own_parts(definition))
    held = _held(parts, context)
    several = [
        (statement, target)
        for statement, target in _set(parts)
        if _GRADIENT.fullmatch(target.attr) and _base(target.value) in held and not attribute_of(target, context)
    ]
    set_there = [target for _, target in several]
    return [
        OverwrittenGrad(written.lines_of(statement), ast.unparse(target), target.attr)
        for statement, target in several
        if not any(part not in set_there and _reads(part, target.attr) for part in parts)
        and len(re.findall(rf"\.{target.attr}\b", text)) > sum(target.attr == other.attr for other in set_there)
    ]


def keeps_gradient(written: WrittenBackward) -> bool:
    """Whether a backward puts a gradient, or adds one to what is there, on what its ctx holds: ``w.main_grad += g``."""
    definition = written.definition
    context = definition.args.args[0].arg if definition.args.args else ""
    parts = list(own_parts(definition))
    held = _held(parts, context)
    targets = [target for _, target in _set(parts)]
    targets += [one.target for one in parts if isinstance(one, ast.AugAssign) and isinstance(one.target, ast.Attribute)]
    targets += [
        one.func.value
        for one in parts
        if isinstance(one, ast.Call)
        and isinstance(one.func, ast.Attribute)
        and isinstance(one.func.value, ast.Attribute)
        if one.func.attr in ("add_", "addmm_", "sub_", "addcmul_")
    ]
    return any(
        _GRADIENT.fullmatch(target.attr) and _base(target.value) in held and not attribute_of(target, context)
        for target in targets
    )


def _held(parts: list[ast.AST], context: str) -> set[str]:
    """The names by which a backward has the ctx, and what that keeps."""
    held = {context}
    for part in parts:
        if isinstance(part, ast.Assign):
            value = part.value
            if isinstance(value, ast.Attribute) and _base(value) == context:
                held |= {one.id for target in part.targets for one in ast.walk(target) if isinstance(one, ast.Name)}
    return held


def _set(parts: list[ast.AST]) -> Iterator[tuple[ast.stmt, ast.Attribute]]:
    """Statements that give an attribute a value, or copy one into it."""
    for part in parts:
        if isinstance(part, ast.Assign) and len(part.targets) == 1 and isinstance(part.targets[0], ast.Attribute):
            is_none = isinstance(part.value, ast.Constant)
            if not is_none and not attribute_of(part.targets[0], "self"):
                yield part, part.targets[0]
        call = part.value if isinstance(part, ast.Expr) else None
        function = call.func if isinstance(call, ast.Call) else None
        is_copy = isinstance(function, ast.Attribute) and function.attr == "copy_"
        copied_to = function.value if isinstance(function, ast.Attribute) and is_copy else None
        if isinstance(part, ast.stmt) and isinstance(copied_to, ast.Attribute):
            yield part, copied_to


def _base(value: ast.expr) -> str:
    while isinstance(value, ast.Attribute | ast.Subscript):
        value = value.value
    return value.id if isinstance(value, ast.Name) else ""


def _reads(part: ast.AST, attribute: str) -> bool:
    """Whether a part of a backward asks for an attribute: to add to it, or to see whether it is there."""
    if isinstance(part, ast.AugAssign):
        return isinstance(part.target, ast.Attribute) and part.target.attr == attribute
    if isinstance(part, ast.Constant):
        return part.value == attribute  # (getattr, hasattr)
    return isinstance(part, ast.Attribute) and part.attr == attribute and isinstance(part.ctx, ast.Load)
