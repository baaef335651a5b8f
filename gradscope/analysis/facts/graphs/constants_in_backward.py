"""What a custom Function's forward computed and kept, and its backward computed with, where a second pass went through.

A pass with ``create_graph=True`` records what backward does, for a pass through its gradients. What is kept of
the arguments of forward, and of what it returned, is known to the graph; what forward computed on the way is not, as it
runs without one: in the second derivative that is a constant.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.function_sources import (
    Definition,
    FunctionSources,
    WrittenBackward,
    attribute_of,
)
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import own_parts

_STEPS = re.compile(r"__(eq|ne|lt|le|gt|ge)__|\b(eq|ne|lt|le|gt|ge|sign|sgn|round|floor|ceil|trunc|fix|frac)_?$")
"""Calls whose derivative is zero where it is one: a forward that makes one has a gradient that is meant to differ."""

_WITHOUT_VALUES = re.compile(r"\b(\w+_like|new_\w+|zero_|fill_|bernoulli_?|normal_|uniform_|dropout\w*)$")
"""Calls whose result does not depend on the values of what they are given."""


class KeptConstant(NamedTuple):
    """A tensor that a Function's forward computed and kept for its backward, under a name of the source's."""

    written: WrittenBackward
    node: int
    """A node of the Function's, with the later pass that went through what its backward had recorded."""
    tensor: int
    name: str
    computed: ast.stmt
    keeping: ast.stmt
    using: ast.stmt
    """The statement of backward whose value is made with it."""
    second_pass: int
    """The op of that pass."""


class ConstantsInBackward:
    """Finds them, at most one of a Function."""

    def __init__(self, index: Index, flow: Flow, passes: Passes, functions: FunctionSources) -> None:
        self._index = index
        self._flow = flow
        self._passes = passes
        self._functions = functions

    def found(self) -> Iterator[KeptConstant]:
        """The last of each Function's; none of one whose backward applies another Function, which may know better."""
        names = self._index.recording.nodes.column("name")
        for name, written in self._functions.of_name.items() if self._recorded_by else ():
            if written.forward is None or _applies(written.definition) or _has_steps(written.forward):
                continue
            nodes = [node for node, text in enumerate(names) if self._index.recording.text(text) == name]
            for node in reversed(nodes):
                if (kept := self._kept_by(node, written)) is not None:
                    yield kept
                    break

    def _kept_by(self, node: int, written: WrittenBackward) -> KeptConstant | None:
        second = self._second_pass(node)
        if second is None:
            return None
        saved = self._index.recording.saved
        for row in self._index.saved.of(node):
            tensor, storage = saved.column("tensor")[row], saved.column("storage")[row]
            tensor = self._first_on.get(storage, tensor) if tensor < 0 else tensor
            if tensor >= 0 and self._is_constant(tensor) and (lines := self._statements(tensor, written)):
                return KeptConstant(written, node, tensor, *lines, second)
        return None

    def _second_pass(self, node: int) -> int | None:
        """The first pass through nodes that a pass through this one recorded."""
        first = self._passes.first_walked_at[node], self._passes.last_walked_at[node]
        found = [self._recorded_by[op] for op in first if op in self._recorded_by]
        return min(found) if found else None

    @cached_property
    def _recorded_by(self) -> dict[int, int]:
        """For each pass whose gradients have a graph: the first pass that went through one of them."""
        rows = self._index.recording.gradients
        given = {op: self._index.tensors_made(op) for op in self._index.roots}
        for op, gradient in zip(rows.column("op"), rows.column("grad"), strict=True):
            given.setdefault(op, []).append(gradient)
        found: dict[int, int] = {}
        for op, gradients in given.items():
            walked = [self._passes.first_walked_at[node] for one in gradients for node in self._nodes_of(one, op)]
            if later := [one for one in walked if one > op]:
                found[op] = min(later)
        return found

    def _nodes_of(self, gradient: int, given_by: int) -> Iterator[int]:
        """The grad_fn of a gradient, or those of what calls made of it that took nothing else that required grad."""
        index, nodes = self._index, self._index.recording.tensors.column("node")
        if gradient >= 0 and nodes[gradient] >= 0:
            yield nodes[gradient]
        for op in index.users.of(gradient) if gradient >= 0 else ():
            taken = [one for one in index.uses.of(op) if one != gradient]
            if op > given_by and op not in index.roots and not any(index.requires_grad(one, op) for one in taken):
                yield from (nodes[made] for made in index.tensors_made(op) if nodes[made] >= 0)

    @cached_property
    def _first_on(self) -> dict[int, int]:
        """The first tensor on each storage: an object that only the node keeps is not seen again."""
        storages = self._index.recording.tensors.column("storage")
        found: dict[int, int] = {}
        for tensor, storage in enumerate(storages):
            found.setdefault(storage, tensor)
        return found

    def _is_constant(self, tensor: int) -> bool:
        """Whether forward computed a tensor that the graph does not know from one that required grad."""
        index, tensors = self._index, self._index.recording.tensors
        made = tensors.column("op")[tensor]
        if made >= index.op_count or not self._flow.is_inside_function(made) or tensor in index.given_by_functions:
            return False
        if tensors.column("node")[tensor] >= 0 or not index.is_floating(tensor) or self._is_output(tensor):
            return False
        todo, seen = [tensor], {tensor}
        while todo:
            one = todo.pop()
            op = tensors.column("op")[one]
            if op >= index.op_count or not self._flow.is_inside_function(op):
                continue
            func = index.call_name(op)
            if one not in index.tensors_made(op) or _STEPS.search(func) or _WITHOUT_VALUES.search(func):
                continue
            for taken in index.uses.of(op):
                if index.requires_grad(taken, op) and index.is_floating(taken):
                    return True
                if taken not in seen:
                    seen.add(taken)
                    todo.append(taken)
        return False

    def _is_output(self, tensor: int) -> bool:
        """Whether a tensor is what a Function returned: calls outside of forwards took it."""
        made = self._index.recording.tensors.column("op")[tensor]
        return any(
            use > made and not self._flow.is_inside_function(use) and use not in self._index.roots
            for use in self._index.users.of(tensor)
        )

    def _statements(self, tensor: int, written: WrittenBackward) -> tuple[str, ast.stmt, ast.stmt, ast.stmt] | None:
        """Its name, and where it is computed, kept, and used in backward; None where that is not clear."""
        span = self._index.recording.ops.column("span")[self._index.recording.tensors.column("op")[tensor]]
        if span < 0 or written.forward is None:
            return None
        row = self._index.recording.spans[span]
        assigned = dict(_assigned(written.forward))
        for kept in _kept(written) if row.file == written.file else ():
            is_named = isinstance(kept.value, ast.Name)
            name = ast.unparse(kept.value)
            computed = assigned.get(name) if is_named else kept.statement
            if computed is None or not computed.lineno <= row.line <= (computed.end_lineno or computed.lineno):
                continue
            using = _use_for_return(written.definition, kept)
            if using is not None and not (is_named and _is_returned(written.forward, name)):
                return name, computed, kept.statement, using
        return None


def _applies(definition: Definition) -> bool:
    parts = own_parts(definition)
    return any(isinstance(one, ast.Attribute) and one.attr in ("apply", "no_grad", "enable_grad") for one in parts)


def _has_steps(forward: Definition) -> bool:
    """Whether a forward compares or rounds: it is not the function whose derivative its backward gives."""
    for part in own_parts(forward):
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and _STEPS.search(part.func.attr):
            return True
        if isinstance(part, ast.Compare) and not all(isinstance(op, ast.Is | ast.IsNot) for op in part.ops):
            return True
    return False


def _assigned(definition: Definition) -> Iterator[tuple[str, ast.stmt]]:
    """The names that a function's statements bind once, with the statement."""
    found: dict[str, list[ast.stmt]] = {}
    for part in own_parts(definition):
        if isinstance(part, ast.Assign | ast.AugAssign):
            for target in part.targets if isinstance(part, ast.Assign) else [part.target]:
                for one in _names(target):
                    found.setdefault(one, []).append(part)
    return ((name, statements[0]) for name, statements in found.items() if len(statements) == 1)


def _is_returned(definition: Definition, name: str) -> bool:
    """Whether a function returns what a name stands for, as it is."""
    for part in own_parts(definition):
        if isinstance(part, ast.Return):
            values = part.value.elts if isinstance(part.value, ast.Tuple) else [part.value]
            if any(isinstance(value, ast.Name) and value.id == name for value in values):
                return True
    return False


class _KeptValue(NamedTuple):
    statement: ast.stmt
    value: ast.expr
    taken_as: str
    """The name, or the attribute of ctx, by which backward has it."""
    from_line: int
    """The line of backward from which on it has that."""


def _kept(written: WrittenBackward) -> Iterator[_KeptValue]:
    """What forward keeps for backward, as the source has it."""
    assert written.forward is not None
    context = written.forward.args.args[0].arg if written.forward.args.args else ""
    for part in own_parts(written.forward):
        if isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            if attribute_of(part.value.func, context) == "save_for_backward":
                for position, value in enumerate(part.value.args):
                    for name, line in _unpacked(written.definition, position):
                        yield _KeptValue(part, value, name, line)
        elif isinstance(part, ast.Assign):
            for target in part.targets:
                if attr := attribute_of(target, context):
                    yield _KeptValue(part, part.value, attr, 0)


def _unpacked(definition: Definition, position: int) -> Iterator[tuple[str, int]]:
    """The names under which a backward takes out the saved tensor at a position, each with the last line of that."""
    for part in own_parts(definition):
        if isinstance(part, ast.Assign) and isinstance(part.value, ast.Attribute | ast.Subscript):
            value, target = part.value, part.targets[0]
            if isinstance(value, ast.Attribute) and value.attr == "saved_tensors" and isinstance(target, ast.Tuple):
                named = target.elts[position] if position < len(target.elts) else None
                if isinstance(named, ast.Name) and not any(isinstance(one, ast.Starred) for one in target.elts):
                    yield named.id, part.end_lineno or part.lineno
            elif isinstance(value, ast.Subscript) and isinstance(value.value, ast.Attribute):
                is_it = isinstance(value.slice, ast.Constant) and value.slice.value == position
                if value.value.attr == "saved_tensors" and is_it and isinstance(target, ast.Name):
                    yield target.id, part.end_lineno or part.lineno


def _use_for_return(definition: Definition, kept: _KeptValue) -> ast.stmt | None:
    """The first statement that computes with what is kept, where a ``return`` may depend on it."""
    depends, first = {kept.taken_as}, None
    statements = (one for one in own_parts(definition) if isinstance(one, ast.stmt) and one.lineno > kept.from_line)
    for part in sorted(statements, key=lambda statement: statement.lineno):
        if isinstance(part, ast.Assign | ast.AugAssign | ast.Return) and part.value is not None:
            if depends.isdisjoint(_mentioned(part.value)):
                depends -= set() if isinstance(part, ast.Return) else _bound(part)
                continue
            if isinstance(part.value, ast.Name | ast.Attribute) and not isinstance(part, ast.Return):
                depends |= _bound(part)  # (another name for it)
                continue
            first = first or part
            if isinstance(part, ast.Return):
                return first
            depends |= _bound(part)
    return None


def _bound(statement: ast.Assign | ast.AugAssign) -> set[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    return {name for target in targets for name in _names(target)}


def _mentioned(value: ast.expr) -> set[str]:
    attributes = {one.attr for one in ast.walk(value) if isinstance(one, ast.Attribute)}
    return {*_names(value), *attributes}


def _names(node: ast.AST) -> list[str]:
    return [one.id for one in ast.walk(node) if isinstance(one, ast.Name)]
