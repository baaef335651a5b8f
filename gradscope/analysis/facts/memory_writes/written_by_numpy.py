"""Results with a graph whose memory numpy was given, and changed before a loss was computed with them.

``wanted = q.detach().numpy()`` copies nothing: what is written into the array is what ``q`` is from then on, and no
node says so. That the bytes changed was seen; that it was for a use beside the graph tells the text, as the array is
read under its own name after that. Where the bytes were saved before, see ``outside_writes``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.memory_writes.outside_writes import OutsideWrites
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.index import Index
from gradscope.frames.names.arrays_written import WrittenArray, written_array
from gradscope.recording import NONE
from gradscope.recording.flags import RAISED
from gradscope.recording.rows import EventKind

ARRAYS = ("Tensor.numpy", "Tensor.__array__")


class WrittenByNumpy(NamedTuple):
    """One change."""

    given: int
    """The call that gave the array."""
    tensor: int
    """The result with a graph that is on the same memory."""
    array: WrittenArray
    used: int
    """The first call after the write that computed with the result."""
    through: int
    """The pass that went through there."""
    row: int
    """Of ``events``."""


def array_given(index: Index, storage: int, before: int, sharing: StorageGroups) -> int:
    """The last call before an op, or that op, which gave an array on a memory block; NONE where none was seen."""
    return max(
        (
            user
            for one in sharing.tensors_on.get(storage, ())
            for user in index.users.of(one)
            if user <= before and index.method(user) in ARRAYS
        ),
        default=NONE,
    )


def written_by_numpy(
    index: Index, passes: Passes, sharing: StorageGroups, events: Events, outside: OutsideWrites
) -> Iterator[WrittenByNumpy]:
    """One for each change of such memory that a pass came by, in the order of the run."""
    for event in events.of(EventKind.MEMORY_CHANGED):
        after = event.detail.get("after")
        if type(after) is not int or not event.tensors or not outside.is_unseen(event) or any(outside.of(event)):
            continue
        given = array_given(index, event.subject, after, sharing)
        array = _array_at(index, given) if given == after else None
        whole = _whole(index, event, given, sharing) if array is not None else NONE
        used = _used(index, passes, whole, given, array) if array is not None and whole >= 0 else None
        if array is not None and used is not None:
            yield WrittenByNumpy(given, whole, array, *used, event.row)


def _array_at(index: Index, given: int) -> WrittenArray | None:
    if given < 0:
        return None
    place = index.statements[index.op_statement[given]]
    file = index.recording.files[place.file] if place.file >= 0 else None
    return written_array(file.text, place.line) if file is not None and file.is_user else None


def _whole(index: Index, event: Happened, given: int, sharing: StorageGroups) -> int:
    """The result with a graph that what numpy was given was taken of; a weight, or what has none, is no such."""
    nodes = index.recording.tensors.column("node")
    taken = index.uses.of(given)
    whole = taken[0] if len(taken) else NONE
    while whole >= 0 and not index.requires_grad(whole, given):
        whole = sharing.base_of(whole)
    is_result = whole >= 0 and nodes[whole] >= 0 and not index.is_leaf(whole) and whole not in index.moves
    return whole if is_result and index.storage_at(whole, given) == event.subject else NONE


def _used(index: Index, passes: Passes, whole: int, given: int, array: WrittenArray) -> tuple[int, int] | None:
    """The first call behind the write, in its function, that took the result, and the pass that went through it.

    When the bytes were changed is known by two looks alone: by the text a call at a later line came after the write.
    """
    nodes, flags = index.recording.tensors.column("node"), index.recording.ops.column("flags")
    for user in index.users.of(whole):
        if user <= given or index.function_of(user) != index.function_of(given):
            continue
        for made in index.tensors_made(user):
            through = passes.last_walked_at[nodes[made]] if nodes[made] >= 0 else NONE
            if through > user and not flags[through] & RAISED:
                return (user, through) if index.op_line(user) > array.written[0] else None
    return None
