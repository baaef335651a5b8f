"""Where ``.grad`` was read and was None, and of which kind the reason is."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from typing import Literal, NamedTuple

from gradscope.analysis.facts.gradients import PASSES_TRIED, Gradients
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.reaching.unreached import Unreached
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import LEAF, RAISED
from gradscope.recording.rows import Field, OpKind

_ROUNDS = (OpKind.BACKWARD, OpKind.GRAD, OpKind.STEP)
"""What a gradient is set before that is the program's own."""

_UNKNOWN = -2
"""In place of a pass: whether there was one is not known."""

NoneKind = Literal["untracked", "non_leaf", "no_backward", "cleared", "unreached"]


class NoneRead(NamedTuple):
    """The last read of a tensor's ``.grad`` that gave None."""

    tensor: int
    op: int
    kind: NoneKind
    because: int
    """The op that cleared it, or the last backward pass before the read; NONE for the other kinds. Of what was computed
    from others: the last pass that came through it, where one did."""
    reason: Unreached | None = None
    """Of what was computed from others, and a pass did not come through: why not."""


class NoneReads:
    """Reads of ``.grad`` that gave None."""

    def __init__(self, index: Index, gradients: Gradients, passes: Passes) -> None:
        self._index = index
        self._gradients = gradients
        self._passes = passes
        self._reasons_by_line: dict[tuple[int, int], Unreached | None] = {}

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
            if len(taken) and not index.gave_a_tensor(op) and not self._gives_one(taken[0], op):
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

    def reason(self, tensor: int, op: int) -> NoneRead:
        """Why the ``.grad`` of a tensor was None when an op was called; the number of ops: at the end of the run."""
        index = self._index
        if not index.requires_grad(tensor, op) or index.is_cut_view(tensor):
            return NoneRead(tensor, op, "untracked", NONE)
        # (what a Function gave has a node that was not known as it was made: of what is retained the passes tell more)
        is_given = tensor in index.given_by_functions and self.retained_at(tensor, op) < 0
        if is_given or not index.recording.tensors.column("flags")[tensor] & LEAF:
            return self._of_result(tensor, op)
        passes = self._passes_before(op)
        # (one that was frozen for a pass and set back was to get nothing from that: its gradient is of one before)
        last = max((at for at in passes if index.requires_grad(tensor, at)), default=max(passes, default=NONE))
        if last < 0 or index.made_not_before(tensor) > last:
            return NoneRead(tensor, op, "no_backward", NONE)
        if cleared := self._cleared(tensor, op, last):
            return cleared
        taken = (
            at
            for at in passes
            if (why := self._gradients.unreached.get((index.op_statement[at], tensor))) and why.taken
        )
        # (what code inside a pass took away is gone by that, and not since a later pass had no way to it)
        return NoneRead(tensor, op, "unreached", max(taken, default=last))

    def _passes_before(self, op: int) -> list[int]:
        kinds = self._index.recording.ops.column("kind")
        return [at for at in self._gradients.roots if at < op and kinds[at] == OpKind.BACKWARD]

    def _cleared(self, tensor: int, op: int, last: int) -> NoneRead | None:
        cleared = [at for at in self._index.cleared_at.get(tensor, ()) if last < at < op]
        return NoneRead(tensor, op, "cleared", cleared[-1]) if cleared else None

    def retained_at(self, tensor: int, op: int) -> int:
        """The first call of ``retain_grad()`` on a tensor before an op; NONE where there was none."""
        index = self._index
        return next((at for at in index.users.of(tensor) if at < op and index.func(at) == "Tensor.retain_grad"), NONE)

    def is_followed_by_pass(self, tensor: int, op: int) -> bool:
        """Whether a backward pass ran after a tensor was made, and before an op."""
        made = self._index.made_not_before(tensor)
        return any(at > made for at in self._passes_before(op))

    def _of_result(self, tensor: int, op: int) -> NoneRead:
        """Of what was computed from others: ``retain_grad()`` helps where a pass comes through, and nowhere else."""
        retained, made = self.retained_at(tensor, op), self._index.made_not_before(tensor)
        passes = sorted(at for at in self._passes_before(op) if at > made)
        if not passes:
            return NoneRead(tensor, op, "non_leaf" if retained < 0 else "no_backward", NONE)
        came_through = self._came_through(tensor, op)
        if came_through >= 0:
            cleared = self._cleared(tensor, op, came_through) if 0 <= retained < came_through else None
            return cleared or NoneRead(tensor, op, "non_leaf", came_through)
        if came_through == NONE and (reason := self._why_not_through(tensor, op, passes)) is not None:
            return NoneRead(tensor, op, "unreached", passes[-1], reason)
        return NoneRead(tensor, op, "non_leaf", NONE)

    def _came_through(self, tensor: int, op: int) -> int:
        """The last pass before an op that came through what computed a tensor; NONE for none; -2: it is not known."""
        nodes = {self._index.recording.tensors.column("node")[tensor], self._index.node_after(tensor)}
        if min(nodes) < 0:
            return _UNKNOWN
        walks = [(self._passes.first_walked_at[node], self._passes.last_walked_at[node]) for node in nodes]
        return max((at for walk in walks for at in walk if at < op), default=NONE)

    def _why_not_through(self, tensor: int, op: int, passes: list[int]) -> Unreached | None:
        """Why none of the passes came through: a cut, or no part in the loss; None where the way was not seen whole.

        What one line makes and another reads in each round has the same reason in each: it is looked for once.
        """
        index = self._index
        made = index.recording.tensors.column("op")[tensor]
        lines = (
            index.op_statement[op] if op < index.op_count else NONE,
            index.op_statement[made] if made < index.op_count else NONE,
        )
        if lines not in self._reasons_by_line:
            found = [self._gradients.reason_for(at, tensor) for at in reversed(passes[-PASSES_TRIED:])]
            known = [one for one in found if one is not None and not one.reached and (one.cut_op >= 0 or one.unused)]
            is_seen = len(known) == len(found)
            first = next((one for one in known if not one.unused), known[0] if known else None)
            self._reasons_by_line[lines] = first if is_seen or (first is not None and not first.unused) else None
        return self._reasons_by_line[lines]
