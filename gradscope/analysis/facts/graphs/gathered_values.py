"""Losses that were computed from what a collective gave of tracked tensors: no gradient flows back through it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.gradients import Gradients
from gradscope.analysis.facts.ranks.collectives import is_of_numbers
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.facts.tracking.flow import Flow, Step
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.recording.flags import COLLECTIVE_OP, GRAD, RAISED
from gradscope.recording.rows import OpKind

_GIVE_OTHERS = frozenset(
    f"dist.{name}"
    for name in (
        "all_gather",
        "all_gather_single",
        "all_gather_into_tensor",
        "reduce_scatter",
        "reduce_scatter_single",
        "reduce_scatter_tensor",
        "all_to_all",
        "all_to_all_single",
    )
)
"""Collectives that write into other tensors than those that they take."""
_JOIN = frozenset(("cat", "concat", "concatenate", "stack", "hstack", "vstack", "where", "__setitem__", "copy_"))
"""Calls by which a process puts its own tensor among what it has of the others."""


class GatheredLoss(NamedTuple):
    """A collective of whose results a pass's root was computed."""

    op: int
    """The collective."""
    taken: tuple[int, ...]
    """The tracked tensors that it was given."""
    root: int
    backward: int
    """The pass (an op)."""
    only_way: tuple[int, ...]
    """Leaves that require grad and whose values went into the root through it alone."""


def gathered_losses(index: Index, flow: Flow, cuts: Cuts, gradients: Gradients) -> Iterator[GatheredLoss]:
    """For each statement that calls such a collective: the last pass that has its results in its root.

    Not where only single numbers were gathered, grad mode was off, or the process put its own tensor in the place of
    what it got back of it: into the list, or by joining it with the others.
    """
    given = _given(index, cuts)
    said: set[int] = set()
    for group in reversed(gradients.groups) if given else ():
        backward = group.last_op
        if index.recording.ops.column("kind")[backward] != OpKind.BACKWARD:
            continue
        for root in (one for one in gradients.roots[backward] if index.requires_grad(one, backward)):
            steps = flow.origins(root, backward)
            for op, results in given.items():
                statement = index.op_statement[op]
                if op > backward or statement in said or not all(one in steps for one in results):
                    continue
                taken = tuple(one for one in index.uses.of(op) if one not in results and index.requires_grad(one, op))
                if taken and not any(_is_put_back(index, flow, one, op, backward, steps) for one in results):
                    said.add(statement)
                    yield GatheredLoss(op, taken, root, backward, _only_way(index, flow, steps, op, backward))


def _given(index: Index, cuts: Cuts) -> dict[int, list[int]]:
    """What each such collective wrote that does not require grad, the last first."""
    kinds, flags = (index.recording.ops.column(name) for name in ("kind", "flags"))
    called = [
        op
        for op in range(index.op_count - 1, -1, -1)
        if kinds[op] == COLLECTIVE_OP and index.func(op) in _GIVE_OTHERS and flags[op] & (GRAD | RAISED) == GRAD
    ]
    wanted = {op for op in called if not is_of_numbers(index, op) and not cuts.regions.is_inside_function(op)}
    found: dict[int, list[int]] = {}
    for op, tensor, _, _ in all_writes(index) if wanted else ():
        if op in wanted and index.is_floating(tensor) and not index.requires_grad(tensor, op + 1):
            found.setdefault(op, []).append(tensor)
    return {op: found[op] for op in called if op in found}


def _is_put_back(index: Index, flow: Flow, result: int, op: int, backward: int, steps: dict[int, Step]) -> bool:
    """Whether what was gathered got a gradient, or was joined with what has one, on the way to the root."""
    if index.requires_grad(result, backward):
        return True
    for at in flow.goes_into(result, backward):
        name = index.func(at).rpartition(".")[2]
        if at > op and name in _JOIN and any(index.requires_grad(one, at) for one in index.uses.of(at)):
            return any(one in steps for one in (*index.tensors_made(at), *index.uses.of(at)))
    return False


def _only_way(index: Index, flow: Flow, steps: dict[int, Step], op: int, backward: int) -> tuple[int, ...]:
    found = []
    for tensor in steps:
        if index.is_leaf_with_grad(tensor, backward):
            way = flow.path(steps, tensor)
            if any(step.op == op and step.loses for step in way):
                found.append(tensor)
    return tuple(sorted(found))
