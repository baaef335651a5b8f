"""Names that get a second value before anything read the first: a loop's variable that its body overwrites."""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.syntax_trees import assigned_names, blocks_of, parsed

_PARAMETERS = ("parameters", "named_parameters")


class OverwrittenName(NamedTuple):
    """A name whose value nobody read."""

    name: str
    line: int
    end_line: int
    """The statement that gives it another one."""
    given: int
    """The line that gave it the first."""


@lru_cache(maxsize=16)
def overwritten_parameters(text: str) -> tuple[OverwrittenName, ...]:
    """Names that a loop over parameters gives a parameter, or a statement a part of something, and the next overwrites.

    ``for k, p in model.named_parameters(): p = saved[k][:n]``: the loop's own ``p`` is never read. Only what stands in
    the block itself counts: under an ``if`` one of two values may be meant.
    """
    tree, found = parsed(text), list[OverwrittenName]()
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.For) and _walks_parameters(node.iter):
            targets = {part.id for part in ast.walk(node.target) if isinstance(part, ast.Name)}
            for name in targets:
                found += _second(name, node.lineno, node.body, 0)
        if isinstance(node, ast.stmt):
            for block in blocks_of(node):
                for position, statement in enumerate(block):
                    if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Subscript | ast.Attribute):
                        for name in assigned_names(statement):
                            found += _second(name, statement.lineno, block, position + 1)
    return tuple(found)


def _second(name: str, given: int, block: list[ast.stmt], start: int) -> list[OverwrittenName]:
    """The statement of a block that overwrites a name which the ones from a start on do not read before."""
    for statement in block[start:]:
        if any(isinstance(node, ast.Name) and node.id == name and _is_read(node) for node in ast.walk(statement)):
            return []
        if name in assigned_names(statement):
            return [OverwrittenName(name, statement.lineno, statement.end_lineno or statement.lineno, given)]
    return []


def _is_read(node: ast.Name) -> bool:
    return not isinstance(node.ctx, ast.Store)


def _walks_parameters(iterated: ast.expr) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _PARAMETERS
        for node in ast.walk(iterated)
    )
