"""Forward hooks that a deep copy of a module has as well: they were registered before it was made.

The copy holds the very functions: what they store of the module's outputs, they store of the copy's in the same place.
"""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.rows import EventKind

_COPIES = "nn.Parameter.__deepcopy__"


class HookInCopy(NamedTuple):
    """A registration, and the copy that came after it."""

    registered: Happened
    op: int
    """The call that copied."""


def hook_in_copy(index: Index, events: Events, result: int) -> HookInCopy | None:
    """The last forward hook that was on what a copy was made of, where the copy made a tensor; None for none.

    That it was on it shows where the module's own parameters were copied, or where a later registration on a module
    on which none had been found a hook of the same code there.
    """
    op = _copy_that_made(index, result)
    if op < 0:
        return None
    hooks = [event for event in events.of(EventKind.HOOK) if event.detail.get("hook") == "forward"]
    copied = set(index.uses.of(op))
    before = [event for event in hooks if event.op <= op]
    for event in reversed(before):
        if not copied.isdisjoint(event.tensors) or any(_came_along(event, hooks, later) for later in hooks):
            return HookInCopy(event, op)
    return None


def _came_along(event: Happened, hooks: list[Happened], later: Happened) -> bool:
    """Whether a hook of the same code was on a module when the first one was registered on that."""
    on = later.detail.get("on")
    is_first = not any(one.detail.get("on") == on for one in hooks if one.row < later.row)
    is_same = later.detail.get("place") == event.detail.get("place")
    return later.row > event.row and is_first and is_same and bool(later.detail.get("there"))


def _copy_that_made(index: Index, result: int) -> int:
    """The call that copied a parameter that the call took that made a tensor; NONE for none."""
    made = index.made_by(result)
    storages, on = index.recording.storages.column("op"), index.recording.tensors.column("storage")
    for used in index.uses.of(made) if 0 <= made < index.op_count else ():
        op = storages[on[used]] if on[used] >= 0 else NONE
        if 0 <= op < index.op_count and index.func(op) == _COPIES and index.op_statement[op] != NOWHERE:
            return op
    return NONE
