"""Graphs that the function of a reentrant checkpoint uses without having been given them as arguments.

``checkpoint(lambda h: block(h, cond), h, use_reentrant=True)``: backward runs the function again, with a pass of its
own, which ends at the arguments. It goes on through the graph of everything else, and frees it: the next one that comes
there fails. That pass is not seen, so the graphs of two such calls, and of the pass itself, are compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL

_NODE = "CheckpointFunctionBackward"
_CUTS = ("detach", "detach_", "data", "item", "tolist", "numpy", "size", "dim")
"""Methods whose result has no graph, whatever they are called on."""

Call = tuple[Happened, int]
"""Where a checkpointed function began to run, and the op before which it was done."""


class CapturedGraph(NamedTuple):
    """A tensor with a graph that such a function used."""

    call: Happened
    tensor: int
    saving: frozenset[int]
    """The nodes behind it that keep something for backward."""


class FreedInside(NamedTuple):
    """What a pass came to after a backward inside of it, or of an earlier one, had freed it."""

    captured: list[CapturedGraph]
    """Of one tensor or several, the first call first."""
    earlier: int
    """The earlier pass; NONE where it was this one itself."""


def freed_inside(index: Index, passes: Passes, calls: list[Call], op: int) -> FreedInside | None:
    """What a pass (an op that failed) was stopped by, where it is what checkpointed functions capture; else None."""
    begun = sorted({row.op for row in index.recording.backwards if row.op <= op})
    before = begun[begun.index(op) - 1] if op in begun and begun[0] != op else -1
    nodes = [node for root in index.root_nodes(op) for node in passes.behind(root)]
    own = _of_pass(index, passes, _between(calls, before, op), nodes)
    outside = _saving(index, nodes)
    shared = [
        one
        for one in own.captured
        if not one.saving.isdisjoint(outside)
        or any(other.call != one.call and not other.saving.isdisjoint(one.saving) for other in own.captured)
    ]
    is_enough = len({one.call.op for one in shared}) - own.unused >= (1 if _meets(shared, outside) else 2)
    if shared and is_enough:
        return FreedInside(shared, NONE)
    return _freed_earlier(index, passes, calls, begun, own, outside)


class _OfPass(NamedTuple):
    captured: list[CapturedGraph]
    unused: int
    """How many of the calls looked at the pass does not come to."""


def _freed_earlier(
    index: Index, passes: Passes, calls: list[Call], begun: list[int], own: _OfPass, outside: frozenset[int]
) -> FreedInside | None:
    """What an earlier pass freed in a backward inside of it, or what this one comes to by such a backward alone."""
    used_up = passes.used_up_at
    op = begun[-1]
    for one in own.captured if not own.unused else ():
        if walked := [used_up[node] for node in one.saving if 0 <= used_up[node] < op]:
            return FreedInside([one], max(walked))
    for before, at in zip([-1, *begun], begun[:-1], strict=False):
        nodes = [node for root in index.root_nodes(at) for node in passes.behind(root)]
        earlier = _of_pass(index, passes, _between(calls, before, at), nodes)
        for one in earlier.captured if not earlier.unused else ():
            met = not one.saving.isdisjoint(outside)
            if met or any(not one.saving.isdisjoint(other.saving) for other in own.captured if not own.unused):
                return FreedInside([one], at)
    return None


def _meets(captured: list[CapturedGraph], outside: frozenset[int]) -> bool:
    return any(not one.saving.isdisjoint(outside) for one in captured)


def _between(calls: list[Call], before: int, op: int) -> list[Call]:
    """The calls between two ops, those inside of others apart."""
    found = list[Call]()
    for call, end in calls:
        if before < call.op and end <= op and not (found and call.op < found[-1][1]):
            found.append((call, end))
    return found


def _of_pass(index: Index, passes: Passes, calls: list[Call], nodes: list[int]) -> _OfPass:
    """What some calls captured. By the nodes of those that a pass comes to it is known what their arguments were."""
    recording = index.recording
    names, made_at = recording.nodes.column("name"), recording.nodes.column("op")
    inside = [node for node in nodes if recording.text(names[node]) == _NODE]
    inside.sort(key=lambda node: (made_at[node], -node))  # (what was first seen together was made from the last on)
    given = [frozenset(index.edges.of(node)) for node in inside]
    every = frozenset().union(*given)
    captured = [
        one
        for number, (call, end) in enumerate(calls)
        for one in _captured(index, passes, call, end, given[number] if len(given) == len(calls) else every)
    ]
    return _OfPass(captured, max(0, len(calls) - len(inside)) if inside else len(calls))


def _captured(index: Index, passes: Passes, call: Happened, end: int, given: frozenset[int]) -> list[CapturedGraph]:
    recording = index.recording
    made_at, flags = recording.tensors.column("op"), recording.tensors.column("flags")
    threads = recording.ops.column("thread")
    used = dict.fromkeys(
        tensor
        for op in range(call.op, min(end, index.op_count))
        if threads[op] == call.thread and index.call_name(op).rpartition(".")[2] not in _CUTS
        for tensor in index.uses.of(op)
        if made_at[tensor] < call.op and not flags[tensor] & EXTERNAL
    )
    nodes = {tensor: node for tensor in used if (node := index.node_after(tensor)) >= 0 and node not in given}
    found = (CapturedGraph(call, one, _saving(index, passes.behind(node))) for one, node in nodes.items())
    return [one for one in found if one.saving]


def _saving(index: Index, nodes: Iterable[int]) -> frozenset[int]:
    return frozenset(node for node in nodes if len(index.saved.of(node)))
