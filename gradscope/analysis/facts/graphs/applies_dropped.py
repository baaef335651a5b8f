"""Calls of a custom Function whose result nothing takes, though what they were given requires grad.

No op stands for such a call. That it was made follows from what runs as often as its statement, from what is called
only beside it, or from ops of the forward that no other call can have made.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import parsed
from gradscope.frames.without_effect.dropped_applies import DroppedApply, dropped_applies
from gradscope.recording.flags import GRAD


class NothingTook(NamedTuple):
    """One statement that applies a Function in vain."""

    found: DroppedApply
    op: int
    """An op whose statement reads or stores the tensor that it is given, in the same function."""
    tensor: int


def applied_in_vain(index: Index, names: dict[int, list[tuple[int, int, int]]]) -> Iterator[NothingTook]:
    """One for each statement that was seen to run with a tensor that requires grad.

    Args:
        index: The recording.
        names: For each tensor the names under which it was seen, with op and span.
    """
    files = index.recording.files
    for found in dropped_applies([file.text if file.is_user else "" for file in files]):
        if _has_run(index, found) and (given := _given(index, names, found)) is not None:
            yield NothingTook(found, *given)


def _given(index: Index, names: dict[int, list[tuple[int, int, int]]], found: DroppedApply) -> tuple[int, int] | None:
    """A call with grad mode on at which an argument, by its name in that function, required grad; with the tensor."""
    recording = index.recording
    flags = recording.ops.column("flags")
    for tensor, rows in names.items():
        for name, op, span in rows:
            if span < 0 or op >= index.op_count or recording.text(name) not in found.given:
                continue
            place = recording.spans[span]
            is_there = place.file == found.file and recording.text(place.function).rpartition(".")[2] == found.inside
            if is_there and flags[op] & GRAD and index.requires_grad(tensor, op + 1):
                return op, tensor
    return None


def _has_run(index: Index, found: DroppedApply) -> bool:
    """Whether the statement was seen to run."""
    lines = {(one.file, one.line) for at, one in enumerate(index.statements) if at in index.last_op}
    if any((found.file, line) in lines for line in found.beside):
        return True
    file, first, last = found.forward
    if found.is_only and any(of == file and first <= line <= last for of, line in lines):
        return True
    tree = parsed(index.recording.files[found.file].text)
    return tree is not None and any(
        (found.file, line) in lines for body in _only_called_at(tree, set(found.beside)) for line in range(*body)
    )


def _only_called_at(tree: ast.Module, lines: set[int]) -> Iterator[tuple[int, int]]:
    """The lines of functions that nothing calls, by their names, but statements at some lines."""
    calls: dict[str, set[int]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            calls.setdefault(ast.unparse(node.func).rpartition(".")[2], set()).add(node.lineno)
    names = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and names.count(node.name) == 1 and calls.get(node.name, {0}) <= lines:
            yield node.body[0].lineno, (node.end_lineno or node.lineno) + 1
