"""What a program takes of what some calls put together: ``h[-1]`` of the two directions of a recurrent layer."""

from __future__ import annotations

import ast
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import parsed

_VIEWS = frozenset(
    """
    transpose permute view reshape contiguous squeeze unsqueeze flatten t movedim swapaxes unflatten clone float
    pad_packed_sequence _pad_packed_sequence
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Calls that give all of what they are given."""

_FOLLOWED = 32


class PartTaken(NamedTuple):
    """A part of something, by a constant index."""

    op: int
    source: str
    """``h[-1]``."""
    whole: int
    """The call that gave what it is taken of."""


def parts_taken(index: Index, passes: Passes, ops: list[int]) -> list[PartTaken]:
    """The parts that were taken of what some calls gave; none at all where anything else was done with it."""
    found: dict[int, PartTaken] = {}
    for whole in ops:
        todo = index.tensors_made(whole)
        seen = set(todo)
        while todo:
            tensor = todo.pop()
            for user in index.users.of(tensor):
                made = [one for one in index.tensors_made(user) if _is_walked(index, passes, one)]
                if not made:
                    continue
                name = index.func(user).rpartition(".")[2]
                source = index.span_source(user, exact=True)
                if name == "__getitem__" and _is_constant(source):
                    found[user] = PartTaken(user, source, whole)
                elif name in _VIEWS and len(seen) < _FOLLOWED:
                    new = [one for one in made if one not in seen]
                    seen.update(new)
                    todo += new
                else:
                    return []
    return [found[op] for op in sorted(found)]


def _is_walked(index: Index, passes: Passes, tensor: int) -> bool:
    """Whether a pass came through what a call gave."""
    node = index.node_after(tensor)
    return node >= 0 and passes.first_walked_at[node] >= 0


def _is_constant(source: str) -> bool:
    """Whether it takes an item, or a slice, that is the same in each run."""
    tree = parsed(source)
    node = tree.body[0].value if tree is not None and tree.body and isinstance(tree.body[0], ast.Expr) else None
    if not isinstance(node, ast.Subscript):
        return False
    items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    return all(_is_number(one) or (isinstance(one, ast.Slice) and _is_fixed(one)) for one in items)


def _is_number(item: ast.expr) -> bool:
    return isinstance(item.operand if isinstance(item, ast.UnaryOp) else item, ast.Constant)


def _is_fixed(part: ast.Slice) -> bool:
    """Whether its ends are numbers or attributes: ``:self.hidden``."""
    variable = (ast.Call, ast.Subscript)
    inside = [one for one in ast.walk(part) if one is not part]
    named = {one.value for one in inside if isinstance(one, ast.Attribute)}
    return not any(isinstance(one, variable) or (isinstance(one, ast.Name) and one not in named) for one in inside)
