"""Functions that ran under activation checkpointing, and that a backward pass ran again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, HOOKED
from gradscope.recording.rows import EventKind


class Rerun(NamedTuple):
    """One run of a checkpointed function."""

    event: Happened
    """Where it began."""
    ops: tuple[int, ...]
    """Its ops, in order, on the thread that ran it."""
    nodes: dict[int, int]
    """For those of its ops through whose node a backward pass came: the pass (an op)."""


def reruns(index: Index, events: Events, passes: Passes) -> Iterator[Rerun]:
    """Checkpointed functions through which a backward pass came: it ran them a second time, unseen."""
    raised = {error.op for error in index.recording.errors}
    for first, ops in checkpointed_runs(index, events):
        walked = {op: at for op in ops if (at := _walked_at(index, passes, op)) >= 0 and at not in raised}
        if walked:
            yield Rerun(first, ops, walked)


def checkpointed_runs(index: Index, events: Events) -> Iterator[tuple[Happened, tuple[int, ...]]]:
    """All of them (not reentrant): where each began, and its ops."""
    begun: dict[int, Happened] = {}
    threads = index.recording.ops.column("thread")
    for event in events.of(EventKind.CHECKPOINT):
        if event.detail.get("begins"):
            begun[event.subject] = event
        elif event.subject in begun:
            first = begun.pop(event.subject)
            ops = range(first.op, min(event.op, index.op_count))
            yield first, tuple(op for op in ops if threads[op] == event.thread)


def bytes_kept_by_checkpoints(index: Index, events: Events) -> int | None:
    """What checkpoints (not reentrant ones, whose nodes save it) keep to run their functions again: what came in from
    outside, each memory block once, without such as nodes save as well. None where other hooks for saved tensors were
    in force: what these keep is theirs alone.
    """
    recording = index.recording
    flags, storages = recording.ops.column("flags"), recording.tensors.column("storage")
    made_at, nbytes = recording.storages.column("op"), recording.storages.column("nbytes")
    hooked = {op for op in set(recording.nodes.column("op")) if op < len(flags) and flags[op] & HOOKED}
    kept = set[int]()
    for _, ops in checkpointed_runs(index, events):
        if hooked.isdisjoint(ops):
            continue  # (under no_grad nothing is to be run again)
        hooked.difference_update(ops)
        own = {tensor for op in ops for tensor in index.made.of(op)}
        kept.update(storages[tensor] for op in ops for tensor in index.uses.of(op) if tensor not in own)
    if hooked:
        return None
    kept -= {NONE, *recording.saved.column("storage")}
    return sum(nbytes[one] * (index.weights[made_at[one]] if made_at[one] < index.op_count else 1) for one in kept)


def _walked_at(index: Index, passes: Passes, op: int) -> int:
    tensors = index.recording.tensors
    flags, nodes = tensors.column("flags"), tensors.column("node")
    walked = (passes.first_walked_at[nodes[t]] for t in index.made.of(op) if nodes[t] >= 0 and not flags[t] & EXTERNAL)
    return max(walked, default=-1)
