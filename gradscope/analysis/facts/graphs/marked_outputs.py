"""Outputs of custom Functions that forward marks as non-differentiable, while backward computes with their gradients.

Both are read off the source; that the output got no graph, and came into a pass's graph, was seen.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.backward_faults import names_made_from
from gradscope.analysis.facts.derivatives.function_sources import Definition, Lines
from gradscope.analysis.facts.graphs.functions_without_node import is_function, is_walked_behind, walked_ops
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.reaching.applied_functions import ApplyCalls
from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import assigned_pairs, last_name, own_parts
from gradscope.recording.flags import GRAD, RAISED
from gradscope.recording.rows import OpKind


class MarkedOutput(NamedTuple):
    """An output that was used in a loss, and got no graph since it is marked."""

    function: str
    name: str
    """What forward calls it."""
    argument: str
    """The argument of backward that is its gradient."""
    marked: Lines
    tensor: int
    op: int
    """The op that took it."""


class _Marked(NamedTuple):
    """One of the outputs of a Function, by its source."""

    name: str
    argument: str
    call: ast.Call
    lines: frozenset[int]
    """Where forward makes it."""


def marked_outputs(index: Index, passes: Passes) -> Iterator[MarkedOutput]:
    """The first use of each in a recording."""
    calls = ApplyCalls(index)
    for file, tree in enumerate(calls.trees):
        for node in () if tree is None else ast.walk(tree):
            if tree is None or not isinstance(node, ast.ClassDef) or not is_function(tree, node):
                continue
            methods = {one.name: one for one in node.body if isinstance(one, ast.FunctionDef)}
            forward, backward = methods.get("forward"), methods.get("backward")
            if forward is None or backward is None:
                continue
            for marked in _marked(forward, backward):
                found = _use(index, passes, calls, file, forward, marked.lines)
                if found is not None:
                    line, last = index.line(file, marked.call.lineno), marked.call.end_lineno or marked.call.lineno
                    lines = Lines(file, line, last, f"{node.name}.forward")
                    yield MarkedOutput(node.name, marked.name, marked.argument, lines, *found)


def _marked(forward: Definition, backward: Definition) -> Iterator[_Marked]:
    """The outputs that one unconditional call marks, and from whose gradients backward computes what it returns."""
    arguments = [one.arg for one in (*backward.args.posonlyargs, *backward.args.args)][1:]
    parts = list(own_parts(forward))
    returns = [one.value for one in parts if isinstance(one, ast.Return) and one.value is not None]
    if len(returns) != 1 or backward.args.vararg is not None:
        return
    elements = returns[0].elts if isinstance(returns[0], ast.Tuple) else [returns[0]]
    if len(elements) != len(arguments):
        return
    named = [statement.value for statement in forward.body if isinstance(statement, ast.Expr)]
    calls = [
        one
        for one in named
        if isinstance(one, ast.Call)
        and isinstance(one.func, ast.Attribute)
        and one.func.attr == "mark_non_differentiable"
    ]
    called = sum(isinstance(one, ast.Attribute) and one.attr == "mark_non_differentiable" for one in parts)
    if len(calls) != 1 or called != 1:
        return
    given = {one.id for one in calls[0].args if isinstance(one, ast.Name)}
    for element, argument in zip(elements, arguments, strict=True):
        if isinstance(element, ast.Name) and element.id in given and _is_used(backward, argument):
            yield _Marked(element.id, argument, calls[0], frozenset(_made_at(parts, element.id)))


def _is_used(backward: Definition, argument: str) -> bool:
    """Whether what backward returns is computed from an argument."""
    made = names_made_from(backward, argument)
    returned = [one.value for one in own_parts(backward) if isinstance(one, ast.Return) and one.value is not None]
    names = {one.id for value in returned for one in ast.walk(value) if isinstance(one, ast.Name)}
    return not made.isdisjoint(names)


def _made_at(parts: list[ast.AST], name: str) -> Iterator[int]:
    """Where a name is assigned, or what it was given as it is."""
    names, todo = {name}, [name]
    while todo:
        wanted = todo.pop()
        for part in (one for one in parts if isinstance(one, ast.Assign)):
            stored = (one for target in part.targets for one in ast.walk(target) if isinstance(one, ast.Name))
            if any(one.id == wanted for one in stored):
                yield from range(part.lineno, (part.end_lineno or part.lineno) + 1)
                given = {
                    value.id
                    for target, value in assigned_pairs(part)
                    if last_name(target) == wanted and isinstance(value, ast.Name)
                }
                todo += given - names
                names |= given


def _use(
    index: Index, passes: Passes, calls: ApplyCalls, file: int, forward: Definition, lines: frozenset[int]
) -> tuple[int, int] | None:
    """A tensor made at some lines of a forward that was given what requires grad, and who took it for a pass's graph.

    What has no graph and is used outside of forward was returned as it is: the outputs that are not marked have one.
    """
    recording = index.recording
    flags, spans = recording.ops.column("flags"), recording.ops.column("span")
    inside = {
        number: span.line
        for number, span in enumerate(recording.spans)
        if span.file == file and forward.lineno <= span.line <= (forward.end_lineno or 0)
    }
    ops = [op for op in range(index.op_count) if spans[op] in inside] if inside else []
    if not any(index.requires_grad(tensor, op) for op in ops for tensor in index.uses.of(op)):
        return None
    failed = {op for op in index.of_kind(OpKind.BACKWARD) if flags[op] & RAISED}  # (for want of any graph)
    walked = walked_ops(index, passes) | failed
    for made_at in (op for op in ops if inside[spans[op]] in lines):
        for tensor in index.tensors_made(made_at):
            if not index.is_floating(tensor) or recording.tensors.column("node")[tensor] >= 0:
                continue
            for op in index.users.of(tensor):
                is_outside = op > made_at and op < index.op_count and spans[op] not in inside
                if not is_outside or not flags[op] & GRAD or index.requires_grad(tensor, op):
                    continue
                if is_walked_behind(index, op, walked, calls):
                    return tensor, op
    return None
