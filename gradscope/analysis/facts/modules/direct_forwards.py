"""Custom Functions whose ``forward`` was called by itself: what it does are plain calls, without its backward."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.function_sources import Definition, Lines
from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import bases_of, parsed
from gradscope.recording.flags import GRAD

_NAME = re.compile(r"((torch\.)?autograd\.)?Function")


class DirectForward(NamedTuple):
    """One such Function."""

    function: str
    op: int
    """The last call within its ``forward`` that ran with gradients on, as it never does under ``apply``."""
    calls: tuple[Lines, ...]
    """Where the text calls ``forward``; empty where it cannot be said."""
    forward: Lines


def direct_forwards(index: Index) -> Iterator[DirectForward]:
    """Those that were seen: ``apply`` runs ``forward`` with gradients off, a direct call with those of its caller.

    Not one that was applied as well: its backward may compute its forward again.
    """
    recording = index.recording
    applied = {recording.text(name) for name in index.custom_functions}
    flags, spans = recording.ops.column("flags"), recording.ops.column("span")
    known = [
        (number, name, forward)
        for number, file in enumerate(recording.files)
        if file.is_user and "Function" in file.text and "torch" in file.text and (tree := parsed(file.text)) is not None
        for name, forward in _forwards(tree)
        if f"{name}Backward" not in applied
    ]
    for file, name, forward in known:
        lines = range(forward.lineno, (forward.end_lineno or forward.lineno) + 1)
        inside = {number for number, span in enumerate(recording.spans) if span.file == file and span.line in lines}
        ops = [op for op, span in enumerate(spans) if span in inside and flags[op] & GRAD and _gives_tracked(index, op)]
        if ops:
            place = Lines(file, index.line(file, forward.lineno), forward.lineno, "")
            yield DirectForward(name, ops[-1], tuple(_calls(index, name)), place)


def _gives_tracked(index: Index, op: int) -> bool:
    return any(index.requires_grad(tensor, op + 1) for tensor in index.tensors_made(op))


def _forwards(tree: ast.Module) -> Iterator[tuple[str, Definition]]:
    """The ``forward`` of each Function that has a backward of its own, by the name of its class."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(map(_NAME.fullmatch, bases_of(tree, node))):
            methods = {one.name: one for one in node.body if isinstance(one, ast.FunctionDef) and one.decorator_list}
            if "forward" in methods and "backward" in methods:
                yield node.name, methods["forward"]


def _calls(index: Index, name: str) -> Iterator[Lines]:
    """The calls ``Name.forward(…)`` in the program's files."""
    for number, file in enumerate(index.recording.files):
        tree = parsed(file.text) if file.is_user and f"{name}" in file.text else None
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "forward":
                owner = node.func.value
                owner = owner.func if isinstance(owner, ast.Call) else owner
                if (owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")) == name:
                    yield Lines(number, index.line(number, node.lineno), node.end_lineno or node.lineno, "")
