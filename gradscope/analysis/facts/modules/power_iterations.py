"""Power iterations in checkpointed functions, which backward ran again: ``F.normalize(…, out=self._u)`` moved twice.

That it did shows by the version of the vector: it went up after the pass by more than the calls that were seen wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.modules.checkpoints import Rerun, reruns
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording.rows import Field, TensorFlag

_ITERATES = "F.normalize"


class MovedAgain(NamedTuple):
    """One run of a checkpointed function."""

    rerun: Rerun
    vectors: dict[int, int]
    """What it moved, each with the call."""


def moved_again(index: Index, events: Events, passes: Passes) -> Iterator[MovedAgain]:
    """One for each run of a checkpointed function with a power iteration that backward made as well."""
    written: dict[int, list[int]] = {}
    for row in index.written_rows:
        change = index.recording.changes[row]
        if (
            change.op < index.op_count
            and index.func(change.op) == _ITERATES
            and _is_state(index, change.op, change.tensor)
        ):
            written.setdefault(change.op, []).append(change.tensor)
    if not written:
        return
    versions: dict[int, list[tuple[int, int, int]]] = {tensor: [] for some in written.values() for tensor in some}
    changes = (index.recording.changes.column(name) for name in ("op", "tensor", "field", "before", "after"))
    for op, tensor, field, before, after in zip(*changes, strict=True):
        if tensor in versions and field == Field.VERSION:
            versions[tensor].append((op, before, after))
    for rerun in reruns(index, events, passes):
        moved = {tensor: op for op in rerun.ops for tensor in written.get(op, ())}
        vectors = {
            tensor: op
            for tensor, op in moved.items()
            if any(node > op and _went_up(index, versions[tensor], at) for node, at in rerun.nodes.items())
        }
        if vectors:
            yield MovedAgain(rerun, vectors)


def _is_state(index: Index, op: int, tensor: int) -> bool:
    """Whether the one that a call wrote was there before the call, and takes part in no graph."""
    tensors = index.recording.tensors
    takes_part = tensors.column("flags")[tensor] & TensorFlag.REQUIRES_GRAD or tensors.column("node")[tensor] >= 0
    return not takes_part and tensor not in index.tensors_made(op)


def _went_up(index: Index, versions: list[tuple[int, int, int]], at: int) -> bool:
    """Whether the version that was met first after a pass is none that a seen call gave."""
    known = max((after for op, _, after in versions if op <= at), default=0)
    later = next((one for one in versions if one[0] > at), None)
    if later is None:
        return False
    op, before, after = later
    return before > known or (after > known and (op >= index.op_count or index.func(op) != _ITERATES))
