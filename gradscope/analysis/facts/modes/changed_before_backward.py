"""Calls of ``train()`` and ``eval()`` between the run of a checkpointed function and the pass that runs it again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.modes.mode_runs import ModeRun
from gradscope.analysis.facts.modes.training_modes import ModeCall, TrainingModes
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import EventKind, OpKind

_CHECKPOINTS = (EventKind.CHECKPOINT, EventKind.REENTRANT_CHECKPOINT)


class ModeChanged(NamedTuple):
    """One run of a checkpointed function."""

    event: Happened
    """Where it began."""
    call: ModeCall
    """The last call that set the mode of what ran, before the pass."""
    back: int
    """The pass (an op)."""
    decided: int
    """An op of the run that the mode decides; NONE where the run of a module of torch's is one op."""


def modes_changed(
    index: Index, events: Events, modes: TrainingModes, runs: list[ModeRun], passes: Passes
) -> Iterator[ModeChanged]:
    """Those whose mode was another when a pass came through than when they ran first."""
    checkpoints = [(kind, *run) for kind in _CHECKPOINTS for run in _runs(events, index.op_count)[kind]]
    if not modes.calls or not checkpoints:
        return
    flags = index.recording.tensors.column("flags")
    threads, kinds = (index.recording.ops.column(name) for name in ("thread", "kind"))
    walked_at: dict[int, int] = {}
    for op, walked in zip(index.recording.nodes.column("op"), passes.first_walked_at, strict=True):
        if walked >= 0:
            walked_at[op] = min(walked, walked_at.get(op, walked))
    for kind, begun, end in checkpoints:
        # The node of a reentrant one is made by the call that ends it, that of the others in the run.
        nodes = range(begun.op + 1, end + 1) if kind == EventKind.REENTRANT_CHECKPOINT else range(begun.op, end)
        back = min((walked_at[op] for op in nodes if op in walked_at), default=NONE)
        ops = [op for op in range(begun.op, end) if threads[op] == begun.thread]
        taken = frozenset(tensor for op in ops for tensor in index.uses.of(op) if flags[tensor] & PARAMETER)
        before = [call for call in modes.calls if call.op <= begun.op and not taken.isdisjoint(call.parameters)]
        later = [call for call in modes.calls if begun.op < call.op <= back and taken <= call.parameters]
        was = before[-1].training if before else True
        if back < 0 or not taken or not later or later[-1].training == was:
            continue
        decided = [run.op for run in runs if run.op in ops and run.is_active == was]
        if decided or any(kinds[op] == OpKind.GROUP for op in ops):
            yield ModeChanged(begun, later[-1], back, decided[-1] if decided else NONE)


def _runs(events: Events, op_count: int) -> dict[EventKind, list[tuple[Happened, int]]]:
    """Where each checkpointed function began to run, and the op before which it was done."""
    found: dict[EventKind, list[tuple[Happened, int]]] = {kind: [] for kind in _CHECKPOINTS}
    for kind in _CHECKPOINTS:
        begun: dict[int, Happened] = {}
        for event in events.of(kind):
            if event.detail.get("begins"):
                begun[event.subject] = event
            elif event.subject in begun:
                found[kind].append((begun.pop(event.subject), min(event.op, op_count)))
    return found
