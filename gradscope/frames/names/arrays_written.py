"""Arrays on the memory of a tensor that a function writes and then hands on: what the text of a file tells.

``wanted = q.detach().numpy()``, ``wanted[rows, actions] = r``, ``F.mse_loss(q, torch.from_numpy(wanted))``: that the
array is read under its own name shows that it was to be another one than what the tensor is.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.names.shared_arrays import written_arrays
from gradscope.frames.syntax_trees import innermost, parsed

_GIVES = ("numpy", "__array__", "asarray")
"""What gives an array that is on a tensor's memory, where nothing copies it at once."""
_PASSES = ("view", "reshape", "squeeze", "ravel", "transpose")
"""Methods of arrays that may go on with the same memory."""
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class WrittenArray(NamedTuple):
    """One name."""

    name: str
    written: tuple[int, ...]
    """The lines that write items of it, after it was taken."""
    read: int
    """The first line after the first of these that takes the array itself for something."""


@lru_cache(maxsize=64)
def written_array(text: str, line: int) -> WrittenArray | None:
    """The array that a statement at a line takes under a name which is given nothing else in its function.

    None where nothing writes it there, or it is read by nothing after that.
    """
    tree = parsed(text)
    statement = innermost(tree, line, ast.Assign) if tree is not None else None
    if tree is None or not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return None
    target = statement.targets[0]
    if not isinstance(target, ast.Name) or not _gives(statement.value):
        return None
    nodes = list(ast.walk(innermost(tree, line, *_FUNCTIONS) or tree))
    named = [node for node in nodes if isinstance(node, ast.Name) and node.id == target.id]
    stores = [node for node in named if isinstance(node.ctx, ast.Store)]
    writes = [
        node
        for node in nodes
        if isinstance(node, ast.stmt | ast.expr) and node.lineno > line and target.id in written_arrays(node)
    ]
    if not writes or any(node is not target and not _is_own(node, writes) for node in stores):
        return None
    first = min(node.lineno for node in writes)
    inside = {id(part) for node in writes for part in ast.walk(node)}
    reads = [
        node.lineno
        for node in named
        if isinstance(node.ctx, ast.Load) and node.lineno > first and id(node) not in inside
    ]
    lines = tuple(sorted({node.lineno for node in writes}))
    return WrittenArray(target.id, lines, min(reads)) if reads else None


def _is_own(name: ast.Name, writes: list[ast.stmt | ast.expr]) -> bool:
    """Whether a store is that of ``wanted *= 0.9``, which writes the array."""
    return any(isinstance(node, ast.AugAssign) and node.target is name for node in writes)


def _gives(value: ast.expr) -> bool:
    while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in _PASSES:
        value = value.func.value
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in _GIVES
