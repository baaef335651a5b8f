"""The names of a loop that have another value in each of its iterations, as far as the text tells."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.frames.syntax_trees import last_name

_CODE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_OF_KIND = ("shape", "dtype", "device", "ndim", "requires_grad", "training")
"""What tensors have alike though their values differ."""
_SAY_KIND = (
    *("size", "dim", "numel", "len", "type", "isinstance", "print", "is_floating_point"),
    *("ones_like", "zeros_like", "full_like", "empty_like"),
)


def changing_names(loop: ast.AST) -> set[str]:
    """The variables of a loop or a comprehension, and what its block computes with them, or adds to itself."""
    targets = [one.target for one in loop.generators] if hasattr(loop, "generators") else []
    targets += [loop.target] if isinstance(loop, ast.For) else []
    found = {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
    block = [one for part in loop.body for one in _statements(part)] if isinstance(loop, ast.For) else []
    before = -1
    while before != len(found):
        before = len(found)
        for statement in block:
            stored, read = _stored(statement), {*names_read(statement.value, of_functions=False)}
            may_stay = isinstance(statement.value, ast.IfExp | ast.BoolOp)
            own = set[str]() if may_stay else stored
            if isinstance(statement, ast.AugAssign) or not read.isdisjoint(found | own):
                found |= stored
    return found


def names_read(node: ast.AST, *, of_functions: bool = True) -> Iterator[str]:
    """The names whose values a part of the text reads: not those of which it asks the shape or the kind only.

    Args:
        node: The part.
        of_functions: Those too that functions read which it makes.
    """
    if isinstance(node, _CODE) and not of_functions:
        return
    if isinstance(node, ast.Attribute) and node.attr in _OF_KIND:
        return
    if isinstance(node, ast.Call) and last_name(node.func) in _SAY_KIND:
        return
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield node.id
    parts = node.body if isinstance(node, ast.With) else ast.iter_child_nodes(node)
    for child in parts:
        yield from names_read(child, of_functions=of_functions)


def _statements(node: ast.AST) -> Iterator[ast.Assign | ast.AugAssign]:
    """The assignments below a node, without those of functions, and without those of a function."""
    if isinstance(node, _CODE):
        return
    if isinstance(node, ast.Assign | ast.AugAssign):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from _statements(child)


def _stored(statement: ast.Assign | ast.AugAssign) -> set[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    parts = (part for target in targets for part in ast.walk(target))
    return {part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
