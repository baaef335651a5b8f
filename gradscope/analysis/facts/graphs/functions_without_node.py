"""Calls of custom Functions that made no graph node, since nothing that they were given required grad.

Their forward was seen; which of its results it returned, and what its backward would have written, is read off the
source.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.function_sources import Definition, Lines, writes_to_held
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.reaching.applied_functions import ApplyCalls
from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import bases_of, own_parts
from gradscope.recording.flags import GRAD
from gradscope.recording.rows import OpKind


class WithoutNode(NamedTuple):
    """One place where a Function is applied, and its backward never runs."""

    function: str
    call: Lines
    writes: Lines
    """What its backward would have written, beside the gradients that it returns."""
    result: int
    """What it returned (a tensor)."""
    op: int
    """The op that took the result."""
    is_always: bool
    """Whether no call there made a node."""


class _Class(NamedTuple):
    name: str
    file: int
    forward: Definition
    writes: Lines
    returned: frozenset[int]
    """The lines that make what forward returns."""


def without_node(index: Index, passes: Passes) -> Iterator[WithoutNode]:
    """The calls of a recording, each place once."""
    calls = ApplyCalls(index)
    for file, tree in enumerate(calls.trees):
        for known in () if tree is None else _classes(index, tree, file):
            seen: set[Lines] = set()
            with_node: set[tuple[int, int]] | None = None
            for result, op in _results(index, passes, known, calls):
                call = calls.at(known.name, op)
                if with_node is None:
                    applied = (calls.at(known.name, one) for one in _with_node(index, known))
                    with_node = {(one.file, one.line) for one in applied if one is not None}
                if call is not None and call not in seen:
                    seen.add(call)
                    is_always = (call.file, call.line) not in with_node
                    yield WithoutNode(known.name, call, known.writes, result, op, is_always)


def _results(index: Index, passes: Passes, known: _Class, calls: ApplyCalls) -> Iterator[tuple[int, int]]:
    """What forward returned without a graph, with the op that took it while grad mode was on, on the way to a pass."""
    recording = index.recording
    flags, kinds, spans = (recording.ops.column(name) for name in ("flags", "kind", "span"))
    inside = {
        number: span.line
        for number, span in enumerate(recording.spans)
        if span.file == known.file and known.forward.lineno <= span.line <= (known.forward.end_lineno or 0)
    }
    made = {
        tensor
        for tensor, op in enumerate(recording.tensors.column("op"))
        if 0 <= op < index.op_count and inside.get(spans[op]) in known.returned
    }
    walked = walked_ops(index, passes)
    with_node = _with_node(index, known)
    looked_at: set[int] = set()
    for op, tensor in zip(recording.uses.column("op"), recording.uses.column("tensor"), strict=True) if made else ():
        if tensor not in made or spans[op] in inside or tensor in looked_at:
            continue
        looked_at.add(tensor)  # its first use after forward: what was between tells the mode in which it was applied
        between = range(recording.tensors.column("op")[tensor] + 1, op)
        if (
            flags[op] & GRAD
            and not any(kinds[one] == OpKind.MODE for one in between)
            and op not in with_node
            and not index.requires_grad(tensor, op)
            and "float" in recording.text(recording.layouts[index.layout_at(tensor, op)].dtype)
            and is_walked_behind(index, op, walked, calls)
        ):
            yield tensor, op


def walked_ops(index: Index, passes: Passes) -> set[int]:
    """The ops that made something in the graph of a backward pass."""
    made_at, given = (index.recording.tensors.column(name) for name in ("op", "node"))
    return {op for op, node in zip(made_at, given, strict=True) if node >= 0 and passes.first_walked_at[node] >= 0}


def is_walked_behind(index: Index, first: int, walked: set[int], calls: ApplyCalls) -> bool:
    """Whether what an op took came into a pass's graph: there, or by ops that made no node either, a view first of all.

    Not by such as would have given no graph in any case.
    """
    flags, todo, seen = index.recording.ops.column("flags"), [first], set[int]()
    while todo:
        op = todo.pop()
        if op in seen or not flags[op] & GRAD:
            continue
        if op in walked:
            return True
        seen.add(op)
        if not calls.is_cut(op):
            todo += [user for made in index.tensors_made(op) for user in index.users.of(made)]
    return False


def _with_node(index: Index, known: _Class) -> set[int]:
    """The ops by which nodes of a Function were seen.

    Where no name holds a result, that it requires grad shows by its node alone, first seen behind its user's.
    """
    text, nodes = index.recording.text, index.recording.nodes
    named = zip(nodes.column("op"), nodes.column("name"), strict=True)
    return {op for op, name in named if op < index.op_count and text(name) == f"{known.name}Backward"}


def _classes(index: Index, tree: ast.Module, file: int) -> Iterator[_Class]:
    """The Functions whose backward writes into what its ctx holds, whichever gradients are needed."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef) or not is_function(tree, node):
            continue
        methods = {one.name: one for one in node.body if isinstance(one, ast.FunctionDef)}
        forward, backward = methods.get("forward"), methods.get("backward")
        if forward is None or backward is None or not backward.args.args or not forward.args.args:
            continue
        skipped = ("needs_input_grad", "mark_non_differentiable")
        attributes = {one.attr for one in ast.walk(node) if isinstance(one, ast.Attribute)}
        written = next(writes_to_held(backward), None)
        if written is not None and not attributes.intersection(skipped):
            first, last = index.line(file, written.lineno), written.end_lineno or written.lineno
            lines = Lines(file, first, last, f"{node.name}.backward")
            yield _Class(node.name, file, forward, lines, frozenset(_returned(forward)))


def is_function(tree: ast.Module, node: ast.ClassDef) -> bool:
    """Whether a class of a file is a ``torch.autograd.Function``, by the names of its bases."""
    return any(base.rpartition(".")[2] == "Function" for base in bases_of(tree, node))


def _returned(forward: Definition) -> Iterator[int]:
    """The lines of ``return`` statements, and of the assignments of names that they return."""
    parts = list(own_parts(forward))
    returns = [one for one in parts if isinstance(one, ast.Return)]
    values = [one.value.elts if isinstance(one.value, ast.Tuple) else [one.value] for one in returns]
    names = {value.id for group in values for value in group if isinstance(value, ast.Name)}
    for part in parts:
        is_assignment = isinstance(part, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id in names for target in part.targets
        )
        if isinstance(part, ast.Return) or is_assignment:
            assert isinstance(part, ast.stmt)
            yield from range(part.lineno, (part.end_lineno or part.lineno) + 1)
