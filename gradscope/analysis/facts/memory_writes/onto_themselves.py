"""Weights that a statement copies onto themselves, again and again, while something is trained."""

from __future__ import annotations

import ast
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.memory_writes.self_copies import loads_of_themselves
from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.facts.writes import all_steps
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER

TIMES = 2
"""Runs of a statement, with steps of an optimizer between, from which on it is reported."""

_ONTO = frozenset(("Tensor.copy_", "Tensor.lerp_"))
"""Calls that leave a tensor as it is where they are given the tensor itself."""
_MIXES = _ONTO | {f"Tensor.{name}" for name in ("add_", "sub_", "__iadd__", "__isub__", "__setitem__")}
_FOLLOWED = 12
"""Tensors that are followed from what is written back to what it is made of."""
_VALUES = (".data", ".detach()")


class OntoItself(NamedTuple):
    """A statement that takes for its writes nothing but what it writes."""

    op: int
    """Its last call."""
    tensors: tuple[int, ...]
    times: int
    is_load: bool
    is_by_one_name: bool
    """What is written and what is taken have one name in the statement."""
    changes: bool
    """It may change them (``p.copy_(0.9 * p)``): it is in vain only where two were meant."""
    is_of_states: bool = False
    """They are no parameters: buffers of a model, or anything else that is written in place."""


def onto_themselves(index: Index, sharing: StorageGroups) -> Iterator[OntoItself]:
    """One for each statement that loads modules from themselves, or mixes parameters with themselves alone."""
    steps, flags = all_steps(index), index.recording.tensors.column("flags")
    for loads in loads_of_themselves(index, sharing).values():
        ops, last = [one.op for one in loads], loads[-1]
        if _is_repeated(steps, ops):
            yield OntoItself(last.op, last.tensors, index.times(ops), True, last.is_by_one_name, False)
    for writes in _mixed(index).values():
        by_tensor: dict[int, list[int]] = {}
        for op, tensor in writes:
            by_tensor.setdefault(tensor, []).append(op)
        ops = max(by_tensor.values(), key=len)
        if _is_repeated(steps, ops):
            changes = not all(_leaves_as_it_is(index, op) for op, _ in writes)
            is_one = _is_by_one_name(index, ops[-1])
            is_of_states = not all(flags[tensor] & PARAMETER for tensor in by_tensor)
            yield OntoItself(ops[-1], tuple(by_tensor), index.times(ops), False, is_one, changes, is_of_states)


def _is_repeated(steps: list[int], ops: list[int]) -> bool:
    return len(ops) >= TIMES and bisect_left(steps, ops[0]) < bisect_left(steps, ops[-1])


def _mixed(index: Index) -> dict[int, list[tuple[int, int]]]:
    """For each statement whose writes all take what they write (a parameter, a state) and no other tensor: these."""
    tensors = index.recording.tensors
    flags, storages, layouts = (tensors.column(name) for name in ("flags", "storage", "layout"))
    shapes = index.recording.layouts.column("shape")
    mixes = index.calls_of(_MIXES.__contains__)
    owners = _states(index, mixes)
    owners |= {storages[one]: one for one, flag in enumerate(flags) if flag & PARAMETER and storages[one] >= 0}
    found, others = dict[int, list[tuple[int, int]]](), {NOWHERE}
    for op in mixes:
        statement, uses = index.op_statement[op], list(index.uses.of(op))
        leaf = owners.get(index.storage_at(uses[0], op), NONE) if uses and statement not in others else NONE
        if leaf < 0:
            continue
        is_whole = shapes[layouts[uses[0]]] == shapes[layouts[leaf]]
        if is_whole and len(uses) > 1 and _made_of(index, op, uses[1:], owners) == {leaf}:
            found.setdefault(statement, []).append((op, leaf))
        else:
            others.add(statement)
    return {statement: writes for statement, writes in found.items() if statement not in others}


def _states(index: Index, mixes: list[int]) -> dict[int, int]:
    """What calls write in place that their own statements did not make, by its memory."""
    made_at, nodes = (index.recording.tensors.column(name) for name in ("op", "node"))
    found: dict[int, int] = {}
    for op in mixes:
        written = next(iter(index.uses.of(op)), NONE)
        if written < 0 or nodes[written] >= 0:
            continue
        made = made_at[written]
        if made >= index.op_count or index.op_statement[made] != index.op_statement[op]:
            found.setdefault(index.storage_at(written, op), written)
    found.pop(NONE, None)
    return found


def _made_of(index: Index, op: int, taken: list[int], owners: dict[int, int]) -> set[int]:
    """The parameters that what a call takes was made of in its statement; NONE among them for anything else."""
    made_at, statement = index.recording.tensors.column("op"), index.op_statement[op]
    found, todo = set[int](), list(taken)
    for _ in range(_FOLLOWED):
        if not todo:
            return found
        tensor = todo.pop()
        made = made_at[tensor]
        leaf = owners.get(index.storage_at(tensor, op), NONE)
        is_made_here = leaf < 0 and made < op and index.op_statement[made] == statement and index.uses.of(made)
        if is_made_here:
            todo += index.uses.of(made)
        else:
            found.add(leaf)
    return {NONE}


def _leaves_as_it_is(index: Index, op: int) -> bool:
    """Whether a call copies a whole tensor onto itself, or moves it towards itself."""
    storages = {index.storage_at(one, op) for one in index.uses.of(op)}
    return index.func(op) in _ONTO and len(storages) == 1


def _is_by_one_name(index: Index, op: int) -> bool:
    """Whether the source calls what a method writes and what it is given the same."""
    try:
        call = ast.parse(index.span_source(op, exact=True), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or not call.args:
        return False
    written, given = (ast.unparse(one) for one in (call.func.value, call.args[0]))
    for ending in _VALUES:
        written, given = written.removesuffix(ending), given.removesuffix(ending)
    return written == given
