"""``modified by an inplace operation`` where the input of a checkpointed function was written when it had run."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.modules.checkpoints import checkpointed_runs
from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.report_model import Evidence
from gradscope.recording.flags import PARAMETER

_MESSAGE = "modified by an inplace operation"


class _WrittenInput(NamedTuple):
    tensor: int
    op: int
    """The first write of it after the function had run."""
    checkpoint: Happened


def found_of_checkpointed(sources: Sources, explained: Container[int]) -> Iterator[Finding]:
    """One finding for each pass (an op) that failed and that no write of what a node saved explains."""
    index = sources.index
    for op, message, severity in sources.raised(_MESSAGE):
        written = [] if op in explained else _written(sources, op, message)
        if not written:
            continue
        first = written[-1]
        line, span = index.op_line(first.op), first.checkpoint.span
        yield sources.finding(
            f"Line {line}: {index.func(first.op)} wrote into {sources.names.of(first.tensor)}, which the checkpoint of "
            f"line {index.span_line(span)} keeps to run its function again; therefore backward at line "
            f"{index.op_line(op)} failed",
            op=first.op,
            tensors=[first.tensor],
            causes=[*sources.cause("write", first.op), *sources.cause_of_event("saved", first.checkpoint)],
            evidence=[Evidence("ops", op), Evidence("events", first.checkpoint.row)],
            advice="Compute a new tensor in place of that write.",
            severity=severity,
        )


def _written(sources: Sources, failed: int, message: str) -> list[_WrittenInput]:
    """What went into checkpointed functions from outside, has the shape of the message, and was written afterwards."""
    index, recording = sources.index, sources.index.recording
    flags, layouts, of = recording.tensors.column("flags"), recording.layouts, recording.tensors.column("layout")
    storages = recording.tensors.column("storage")
    writes: dict[int, list[int]] = {}
    for op, tensor, _, _ in writes_by_program(index):
        if op < failed and storages[tensor] >= 0:
            writes.setdefault(storages[tensor], []).append(op)
    found: list[_WrittenInput] = []
    for event, ops in checkpointed_runs(index, sources.events):
        if not ops or ops[-1] > failed or event.span < 0:
            continue
        own = {tensor for op in ops for tensor in index.tensors_made(op)}
        for tensor in dict.fromkeys(one for op in ops for one in index.uses.of(op) if one not in own):
            shape = recording.text(layouts[of[tensor]].shape).strip("()").rstrip(",")
            later = [op for op in writes.get(storages[tensor], ()) if op > ops[-1]]
            if later and not flags[tensor] & PARAMETER and f"[{shape}]" in message:
                found.append(_WrittenInput(tensor, later[0], event))
    return found
