"""Where ``.grad`` was read and was None, and of which kind the reason is."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from typing import Literal, NamedTuple

from gradscope.analysis.facts.gradients import Gradients
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, LEAF, RAISED
from gradscope.recording.rows import Field, OpKind

_ROUNDS = (OpKind.BACKWARD, OpKind.GRAD, OpKind.STEP)
"""What a gradient is set before that is the program's own."""

NoneKind = Literal["untracked", "non_leaf", "no_backward", "cleared", "unreached"]


class NoneRead(NamedTuple):
    """The last read of a tensor's ``.grad`` that gave None."""

    tensor: int
    op: int
    kind: NoneKind
    because: int
    """The op that cleared it, or the last backward pass before the read; NONE for the other kinds."""


class NoneReads:
    """Reads of ``.grad`` that gave None."""

    def __init__(self, index: Index, gradients: Gradients) -> None:
        self._index = index
        self._gradients = gradients

    @cached_property
    def last_of(self) -> dict[int, NoneRead]:
        """For each tensor whose ``.grad`` was read and None: the last such read."""
        index = self._index
        flags = index.recording.ops.column("flags")
        last: dict[int, int] = {}
        for op in index.of_kind(OpKind.READ_GRAD):
            if flags[op] & RAISED:
                continue
            taken = index.uses.of(op)
            gave_one = len(index.results.of(op)) or len(index.made.of(op)) > self._first_seen(op)
            if len(taken) and not gave_one and not self._gives_one(taken[0], op):
                last[taken[0]] = op
        return {tensor: self.reason(tensor, op) for tensor, op in last.items()}

    def _gives_one(self, tensor: int, op: int) -> bool:
        """Whether the program itself sets the gradient that it found to be None, before the next pass or step.

        ``p.grad = d if p.grad is None else p.grad + d`` asks, and is not surprised.
        """
        kinds, later = self._index.recording.ops.column("kind"), self._set_at.get(tensor, [])
        position = bisect_right(later, op)
        if position == len(later):
            return False
        return not any(kinds[one] in _ROUNDS for one in range(op + 1, later[position]))

    @cached_property
    def _set_at(self) -> dict[int, list[int]]:
        """For each tensor the ops at which the program set its ``.grad`` to a tensor, in order."""
        changes, kinds = self._index.recording.changes, self._index.recording.ops.column("kind")
        columns = (changes.column(name) for name in ("op", "tensor", "field", "after"))
        found: dict[int, list[int]] = {}
        for op, tensor, field, after in zip(*columns, strict=True):
            if field == Field.GRAD and after >= 0 and op < self._index.op_count and kinds[op] == OpKind.SET:
                found.setdefault(tensor, []).append(op)
        return found

    def _first_seen(self, op: int) -> int:
        """Tensors that were first seen as inputs of an op."""
        flags = self._index.recording.tensors.column("flags")
        return sum(bool(flags[tensor] & EXTERNAL) for tensor in self._index.made.of(op))

    def reason(self, tensor: int, op: int) -> NoneRead:
        """Why the ``.grad`` of a tensor was None when an op was called; the number of ops: at the end of the run."""
        return NoneRead(tensor, op, *self._kind(tensor, op))

    def _kind(self, tensor: int, op: int) -> tuple[NoneKind, int]:
        index = self._index
        if not index.requires_grad(tensor, op) or index.is_cut_view(tensor):
            return "untracked", NONE
        if not index.recording.tensors.column("flags")[tensor] & LEAF:
            return "non_leaf", NONE
        kinds = index.recording.ops.column("kind")
        passes = [at for at in self._gradients.roots if at < op and kinds[at] == OpKind.BACKWARD]
        # (one that was frozen for a pass and set back was to get nothing from that: its gradient is of one before)
        last = max((at for at in passes if index.requires_grad(tensor, at)), default=max(passes, default=NONE))
        if last < 0 or index.made_not_before(tensor) > last:
            return "no_backward", NONE
        cleared = [at for at in index.cleared_at.get(tensor, ()) if last < at < op]
        return ("cleared", cleared[-1]) if cleared else ("unreached", last)
