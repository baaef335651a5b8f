"""Data with NaN that a call keeps for backward, where the pass that gave NaN was not asked for them.

What nodes keep is asked before every pass that is looked at only of functions that end somewhere; before one whose loss
is not finite it is asked of all, and all tensors that live are looked at: as the pass after the one that ruined the
weights is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.value_looks import PassLook, is_nan
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import OpKind

_FOLLOWED = 10_000
"""Ops behind a tensor that are followed."""


class NanInData(NamedTuple):
    """A call, and what it keeps."""

    op: int
    """Of the pass that gave NaN."""
    tensor: int
    """The data that it takes."""
    look: PassLook
    """The later pass before which the NaN was seen."""
    is_same: bool
    """It was seen in this tensor, which nothing has written to meanwhile; else in what the same call took later."""


class _Data(NamedTuple):
    """Data that a node keeps."""

    op: int
    tensor: int
    name: int
    attr: int
    statement: int

    @property
    def place(self) -> tuple[int, int, int]:
        """What it has in common with what a node keeps that the same call made in another pass."""
        return self.statement, self.name, self.attr


def nan_in_data(index: Index, passes: Passes, look: PassLook, looks: Iterable[PassLook]) -> NanInData | None:
    """The first call of a pass that keeps data with NaN, as a later pass that was looked at shows.

    Args:
        index: The recording.
        passes: What is behind each root.
        look: A pass with a finite loss, and gradients that are not.
        looks: All passes that were looked at.
    """
    kept = sorted(_kept_data(index, passes, look.op))
    for later in (one for one in looks if one.op > look.op) if kept else ():
        seen = {tensor for tensor, values in later.tensors.items() if is_nan(values)}
        bad = {(one.node, one.attr) for one in later.kept if is_nan(one.values)}
        known = _Origins(index, look.op, later.op)
        places = {
            there.place
            for there in _kept_data(index, passes, later.op, bad, seen)
            if there.op > look.op and known.is_data(there.tensor)
        }
        for one in kept:
            is_same = one.tensor in seen
            if (is_same or one.place in places) and known.is_data(one.tensor):
                return NanInData(one.op, one.tensor, later, is_same)
    return None


def _kept_data(
    index: Index,
    passes: Passes,
    pass_op: int,
    bad: Collection[tuple[int, str]] | None = None,
    seen: Collection[int] = (),
) -> Iterator[_Data]:
    """The numbers without a graph that the nodes of a pass keep of what their calls took.

    Args:
        index: The recording.
        passes: What is behind each root.
        pass_op: The pass.
        bad: Nodes and what they keep that is wanted, if not all.
        seen: Tensors that are wanted as well.
    """
    nodes, saved, text = index.recording.nodes, index.recording.saved, index.recording.text
    made_by, names = nodes.column("op"), nodes.column("name")
    roots = [row.node for row in index.recording.backwards if row.op == pass_op]
    for node in {behind for root in roots for behind in passes.behind(root)}:
        op = made_by[node]
        if not 0 <= op < index.op_count or index.op_statement[op] == NOWHERE:
            continue
        for row in map(saved.__getitem__, index.saved.of(node)):
            if row.tensor < 0 or row.tensor not in index.uses.of(op) or not index.is_floating(row.tensor):
                continue
            is_wanted = bad is None or row.tensor in seen or (node, text(row.attr)) in bad
            if is_wanted and not index.requires_grad(row.tensor, op):
                yield _Data(op, row.tensor, names[node], row.attr, index.op_statement[op])


class _Origins:
    """What tensors were made of, with the steps between two passes in mind: weights that became NaN make NaN."""

    def __init__(self, index: Index, since: int, until: int) -> None:
        self._index = index
        self._written = {index.storage_at(tensor, op) for op, tensor in self._writes() if since < op < until}
        exports = (op for op in index.of_kind(OpKind.EXPORT) if since < op < until)
        losses = {row.root for row in index.recording.backwards}
        taken = (one for op in exports for one in index.uses.of(op))
        self._gave_values = any(index.is_floating(one) and one not in losses for one in taken)
        self._since = since

    def _writes(self) -> Iterator[tuple[int, int]]:
        """But for the version that a tensor is born with: that of what a view is of."""
        made_at = self._index.recording.tensors.column("op")
        return ((op, tensor) for op, tensor, *_ in all_writes(self._index) if op != made_at[tensor])

    def is_data(self, tensor: int) -> bool:
        """Whether nothing of it came from what requires grad, nor from what was written since the first pass.

        What was first seen in a call may hold values of a network, where any but a loss left torch meanwhile.
        """
        index = self._index
        flags, made_at = (index.recording.tensors.column(name) for name in ("flags", "op"))
        todo, seen = [tensor], {tensor}
        while todo:
            one = todo.pop()
            op = index.made_by(one)
            if index.requires_grad(one, made_at[one]) or index.storage_at(one, made_at[one]) in self._written:
                return False
            is_unseen = bool(flags[one] & EXTERNAL) or not 0 <= op < index.op_count or not len(index.uses.of(op))
            if is_unseen and made_at[one] > self._since and self._gave_values:
                return False
            for taken in index.uses.of(op) if 0 <= op < index.op_count else ():
                if taken not in seen:
                    seen.add(taken)
                    todo.append(taken)
            if len(seen) > _FOLLOWED:
                return False
        return True
