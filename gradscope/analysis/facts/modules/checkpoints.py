"""Functions that ran under activation checkpointing, and that a backward pass ran again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording.flags import EXTERNAL
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


def _walked_at(index: Index, passes: Passes, op: int) -> int:
    tensors = index.recording.tensors
    flags, nodes = tensors.column("flags"), tensors.column("node")
    walked = (passes.first_walked_at[nodes[t]] for t in index.made.of(op) if nodes[t] >= 0 and not flags[t] & EXTERNAL)
    return max(walked, default=-1)
