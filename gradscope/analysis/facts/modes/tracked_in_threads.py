"""What other threads computed with gradients while the thread that waited for them had them switched off.

Grad mode belongs to a thread: one that is started, or given work, under ``no_grad`` has it on. That this was not meant
shows where the results go on into a graph, as no result of the region itself would, or where several of them keep
graphs that nobody walks.
"""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.tracking.grad_regions import GradRegions
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.flags import GRAD
from gradscope.recording.rows import OpKind

KEPT = 3
"""Results of one call that keep their graphs at the same time, from which on it is said."""


class KeptInThread(NamedTuple):
    """Results of one region that were kept together, with graphs that no backward pass walked."""

    region: int
    """The op that put grad mode off."""
    tensors: tuple[int, ...]
    """What other threads made meanwhile by one call, and the program kept till the end, or took together."""
    ops: frozenset[int]
    """All that other threads did with gradients on while it was off in the region's."""


class TrackedInThread(NamedTuple):
    """Results of one region that a backward pass walked."""

    region: int
    """The op that put grad mode off."""
    tensors: tuple[int, ...]
    """What other threads made meanwhile, and the region's own thread took."""
    taken_by: int
    """The call that took the first of them."""
    walked_by: int


def tracked_in_threads(index: Index, regions: GradRegions, passes: Passes) -> list[TrackedInThread]:
    """One for each statement that put grad mode off."""
    ops, tensors = index.recording.ops, index.recording.tensors
    threads, flags = ops.column("thread"), ops.column("flags")
    if len(set(threads)) < 2:
        return []
    nodes, made_at = tensors.column("node"), tensors.column("op")
    found: dict[int, list[tuple[int, int, int]]] = {}
    for use, taker in zip(*(index.recording.uses.column(name) for name in ("tensor", "op")), strict=True):
        made, node = made_at[use], nodes[use]
        if node < 0 or made >= taker or threads[made] == threads[taker] or not flags[taker] & flags[made] & GRAD:
            continue
        region = regions.off_in(threads[taker], made)
        if region >= 0 and passes.first_walked_at[node] >= taker:
            found.setdefault(index.op_statement[region], []).append((use, taker, region))
    by_statement = _tracked_elsewhere(index) if found else {}
    return [
        TrackedInThread(
            taken[0][2],
            tuple(dict.fromkeys(use for use, _, _ in taken)),
            taken[0][1],
            passes.first_walked_at[nodes[taken[0][0]]],
        )
        for taken in found.values()
        if not any(
            regions.off_in(threads[taker], other) == NONE
            for use, taker, _ in taken
            for other in by_statement.get(index.op_statement[made_at[use]], ())
        )
    ]


def _tracked_elsewhere(index: Index) -> dict[int, list[int]]:
    """For each statement the ops that it made, with gradients on, in threads other than the first one that made any."""
    ops = index.recording.ops
    threads, flags = ops.column("thread"), ops.column("flags")
    found: dict[int, list[int]] = {}
    for op, statement in enumerate(index.op_statement):
        if threads[op] != threads[0] and flags[op] & GRAD:
            found.setdefault(statement, []).append(op)
    return found


def kept_in_threads(index: Index, regions: GradRegions, passes: Passes) -> list[KeptInThread]:
    """One for each statement that put grad mode off.

    Threads that run passes of their own are at other work, and so are those that go on when the region is left.
    """
    recording = index.recording
    threads, kinds, spans, funcs = (recording.ops.column(name) for name in ("thread", "kind", "span", "func"))
    if len(set(threads)) < 2:
        return []
    with_passes = {threads[op] for op, kind in enumerate(kinds) if kind in (OpKind.BACKWARD, OpKind.GRAD)}
    beside: dict[int, list[int]] = {}
    for statement, ops in _tracked_elsewhere(index).items():
        around = {index.op_statement[region]: region for op in ops if (region := regions.off_in(threads[0], op)) >= 0}
        is_beside = all(regions.off_in(threads[0], op) >= 0 and threads[op] not in with_passes for op in ops)
        if statement != NOWHERE and is_beside and len(around) == 1:
            beside.setdefault(next(iter(around.values())), []).extend(ops)
    nodes = recording.tensors.column("node")
    found = []
    for region, ops in beside.items():
        made: dict[tuple[int, int], list[int]] = {}
        for op in ops:
            for tensor in index.tensors_made(op):
                if nodes[tensor] >= 0 and passes.first_walked_at[nodes[tensor]] < 0:
                    made.setdefault((spans[op], funcs[op]), []).append(tensor)
        kept = max((_kept_together(index, threads[0], tensors) for tensors in made.values()), key=len, default=[])
        if len(kept) >= KEPT:
            found.append(KeptInThread(region, tuple(kept), frozenset(ops)))
    return found


def _kept_together(index: Index, thread: int, tensors: list[int]) -> list[int]:
    """Those of some tensors that were there at the end of the run or, if more, that one call of a thread took."""
    died, threads = index.recording.tensors.column("died"), index.recording.ops.column("thread")
    taken: dict[int, list[int]] = {}
    for tensor in tensors:
        for op in set(index.users.of(tensor)):
            if threads[op] == thread:
                taken.setdefault(op, []).append(tensor)
    alive = [tensor for tensor in tensors if died[tensor] == NONE]
    return max([alive, *taken.values()], key=len)
