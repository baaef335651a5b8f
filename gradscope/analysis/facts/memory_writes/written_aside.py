"""Results with a graph whose memory was written through ``detach()`` or ``.data``, for a use beside that graph.

``shown = pred.detach(); shown.clamp_(0, 1)`` for a metric: the loss is then computed from the clamped ``pred``, and no
node says so. Writes past the graph are meant, too: parameters are kept in bounds like that, and a layer's results. Told
is what the use shows to be for another purpose: what was written is read under its own name, or handed on, as a tensor
without a graph, and a pass goes through what the result itself was used for after the write. So is a function that
writes under ``no_grad`` what it is given, and reads that.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.storage_groups import StorageGroups, overlap
from gradscope.analysis.facts.tracking.grad_regions import GradRegions
from gradscope.analysis.facts.tracking.values_taken import ValuesTaken
from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.flags import RAISED
from gradscope.recording.rows import OpKind

_TAKES = ("Tensor.detach", "Tensor.data.__get__")


class WrittenAside(NamedTuple):
    """One write."""

    op: int
    written: int
    """The tensor without a graph through which it was written."""
    taken: int
    """The call that took this of the result; NONE where it is the result itself, or a view, in a no_grad."""
    whole: int
    """The result with a graph."""
    used: int
    """The first call after the write that computed with the result for a loss."""
    through: int
    """The pass that went through there."""


def written_aside(index: Index, sharing: StorageGroups, passes: Passes) -> dict[int, WrittenAside]:
    """The last for each statement that writes."""
    finder, found = _WritesAside(index, sharing, passes), dict[int, WrittenAside]()
    kinds, inner = (index.recording.ops.column(name) for name in ("kind", "inner"))
    ops = dict.fromkeys(op for op, _, _, _ in writes_by_program(index))
    for op in ops:
        if kinds[op] != OpKind.CALL or inner[op] >= 0 or index.op_statement[op] == NOWHERE:
            continue
        one = finder.of(op)
        if one is not None:
            found[index.op_statement[op]] = one
    return found


class _WritesAside:
    def __init__(self, index: Index, sharing: StorageGroups, passes: Passes) -> None:
        self._index = index
        self._sharing = sharing
        self._passes = passes
        self._values = ValuesTaken(index)
        self._regions = GradRegions(index)
        self._nodes = index.recording.tensors.column("node")

    def of(self, op: int) -> WrittenAside | None:
        index = self._index
        taken = index.uses.of(op)
        written = taken[0] if taken else NONE
        if written < 0 or written in index.moves:
            return None
        whole, aside = self._result_under(written, op)
        if whole < 0 or not self._is_read_aside(aside, op):
            return None
        used, made_at = self._used_in_loss(written, whole, op), index.recording.tensors.column("op")
        made_by = made_at[aside] if aside != whole else NONE
        if used is None or (made_by >= 0 and index.method(made_by) in _TAKES):
            return None if used is None else WrittenAside(op, written, made_by, whole, *used)
        # A function is given the result, and computes something of it under no_grad.
        others = (used[0], made_at[whole])
        is_given = all(index.function_of(other) != index.function_of(op) for other in others)
        return WrittenAside(op, written, NONE, whole, *used) if is_given else None

    def _result_under(self, written: int, op: int) -> tuple[int, int]:
        """The result with a graph under what was written, and the tensor that was taken of it; NONE for none.

        A single number is a loss that is logged: what is written there changes no gradient.
        """
        index, made_at = self._index, self._index.recording.tensors.column("op")
        aside = whole = written
        while whole >= 0 and not index.requires_grad(whole, op):
            aside, whole = whole, self._sharing.base_of(whole)
        if whole < 0 or self._nodes[whole] < 0 or index.is_leaf(whole) or whole in index.moves:
            return NONE, NONE
        is_taken = aside != whole and made_at[aside] < index.op_count and index.method(made_at[aside]) in _TAKES
        is_aside = is_taken or self._regions.of(op) >= 0
        return (whole, aside) if is_aside and not index.has_one_element(whole) else (NONE, NONE)

    def _is_read_aside(self, taken: int, op: int) -> bool:
        """Whether what was taken, or a view of it, is read after the write, for more than to be written again."""
        index, storage = self._index, self._index.storage_at(taken, op)
        return any(
            user > op
            and one in self._values.of(user)
            and not (user in self._writing and index.uses.of(user)[0] == one)
            and not any(index.storage_at(made, user) == storage for made in index.tensors_made(user))
            for one in self._sharing.tensors_on.get(storage, (taken,))
            if self._is_under(one, taken)
            for user in index.users.of(one)
            if not index.requires_grad(taken, op) or self._is_in_function(user, op)
        )

    def _is_in_function(self, user: int, op: int) -> bool:
        """Whether a call was made without a graph, in the function that another one was made in."""
        return self._regions.of(user) >= 0 and self._index.function_of(user) == self._index.function_of(op)

    def _is_under(self, tensor: int, taken: int) -> bool:
        while tensor >= 0 and tensor != taken:
            tensor = self._sharing.base_of(tensor)
        return tensor == taken

    @cached_property
    def _writing(self) -> frozenset[int]:
        return frozenset(op for op, _, _, _ in writes_by_program(self._index))

    def _used_in_loss(self, written: int, whole: int, op: int) -> tuple[int, int] | None:
        """The first call after a write that took the result, or a view of it with a graph, and the pass through it."""
        index, flags = self._index, self._index.recording.ops.column("flags")
        last, place = self._passes.last_walked_at, self._sharing.range_of(written)
        users = (
            (user, one)
            for one in self._sharing.tensors_on.get(index.storage_at(whole, op), (whole,))
            if self._nodes[one] >= 0 and index.requires_grad(one, op) and overlap(place, self._sharing.range_of(one))
            for user in index.users.of(one)
            if user > op and not flags[user] & RAISED
        )
        for user, one in sorted(users):
            if one not in self._values.of(user) or user in self._writing:
                continue
            for made in index.tensors_made(user):
                node = self._nodes[made]
                through = last[node] if node >= 0 and index.requires_grad(made, user + 1) else NONE
                if through > user and not flags[through] & RAISED and self._is_kept_for(node, through, op):
                    return user, through
        return None

    def _is_kept_for(self, node: int, through: int, since: int) -> bool:
        """Whether a node from where a pass began to another one keeps values: a mean or a sum has the same gradient."""
        index, passes = self._index, self._passes
        starts, following = passes.edge_starts, index.edges.values
        made_at = index.recording.nodes.column("op")
        for root in index.root_nodes(through):
            before: dict[int, list[int]] = {}
            for one in passes.behind(root):
                for after in following[starts[one] : starts[one + 1]]:
                    before.setdefault(after, []).append(one)
            todo, seen = [node], {node}
            while todo:
                one = todo.pop()
                if made_at[one] > since and len(index.saved.of(one)):
                    return True
                new = [other for other in before.get(one, ()) if other not in seen]
                seen.update(new)
                todo += new
        return False
