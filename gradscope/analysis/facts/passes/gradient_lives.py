"""What became of each gradient: the passes that gave it, what cleared it, the steps that wrote its parameter."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from functools import cached_property
from itertools import chain

from gradscope.analysis.facts.writes import all_writes, is_step, possible_writes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import Field, GradOutcome

_ZEROES = ("Tensor.zero_", "optim.Optimizer.zero_grad", "nn.Module.zero_grad", "torch._foreach_zero_")
"""Functions that set all of a gradient to zero where they write it."""
_SETS = "Tensor.grad.__set__"


class GradientLives:
    """The gradients of one recording, by the parameter (a tensor) that they belong to; ops are in order."""

    def __init__(self, index: Index) -> None:
        self._index = index

    @cached_property
    def passes(self) -> dict[int, list[int]]:
        """The passes that gave each parameter a gradient or added to it."""
        rows, found = self._index.recording.gradients, dict[int, list[int]]()
        columns = (rows.column(name) for name in ("op", "tensor", "outcome"))
        for op, tensor, outcome in zip(*columns, strict=True):
            if outcome in (GradOutcome.CREATED, GradOutcome.ACCUMULATED):
                found.setdefault(tensor, []).append(op)
        return found

    def is_there(self, tensor: int, op: int) -> bool:
        """Whether a pass before an op gave a tensor a gradient that nothing had taken away by then."""
        given = bisect_left(self.passes.get(tensor, []), op)
        taken = self._index.cleared_at.get(tensor, [])
        gone = bisect_left(taken, op)
        return given > 0 and (gone == 0 or taken[gone - 1] < self.passes[tensor][given - 1])

    def was_added(self, parameter: int, op: int) -> bool:
        """Whether a pass found a gradient of the parameter there, and added to it."""
        return (op, parameter) in self._added

    @cached_property
    def _added(self) -> frozenset[tuple[int, int]]:
        rows = self._index.recording.gradients
        columns = (rows.column(name) for name in ("op", "tensor", "outcome"))
        return frozenset((op, one) for op, one, how in zip(*columns, strict=True) if how == GradOutcome.ACCUMULATED)

    @cached_property
    def owners(self) -> dict[int, int]:
        """The parameter whose ``.grad`` a tensor was."""
        rows = self._index.recording.gradients
        columns = (rows.column(name) for name in ("tensor", "grad"))
        return {gradient: tensor for tensor, gradient in zip(*columns, strict=True) if gradient >= 0}

    @cached_property
    def given(self) -> dict[int, list[int]]:
        """The gradients (tensors) that were there after each pass."""
        rows, found = self._index.recording.gradients, dict[int, list[int]]()
        for op, gradient in zip(rows.column("op"), rows.column("grad"), strict=True):
            if gradient >= 0:
                found.setdefault(op, []).append(gradient)
        return found

    @cached_property
    def zeroed(self) -> dict[int, list[int]]:
        """The calls that set all of each parameter's gradient to zero."""
        found: dict[int, list[int]] = {}
        for op, tensor, _, _ in all_writes(self._index):
            if tensor in self.owners and op < self._index.op_count and self._index.method(op) in _ZEROES:
                ops = found.setdefault(self.owners[tensor], [])
                if ops[-1:] != [op]:
                    ops.append(op)
        return found

    @cached_property
    def put(self) -> dict[int, list[int]]:
        """The calls that gave each parameter another gradient, by hand: they set ``.grad``, or wrote into it."""
        index, found = self._index, dict[int, set[int]]()
        changes = (index.recording.changes.column(name) for name in ("op", "tensor", "field", "after"))
        for op, tensor, field, after in zip(*changes, strict=True):
            if field == Field.GRAD and after >= 0 and index.func(op) == _SETS:
                found.setdefault(tensor, set()).add(op)
        for op, tensor, _, _ in all_writes(index):
            if tensor in self.owners and op < index.op_count and index.method(op) not in _ZEROES:
                found.setdefault(self.owners[tensor], set()).add(op)
        return {tensor: sorted(ops) for tensor, ops in found.items()}

    @cached_property
    def cleared(self) -> dict[int, list[int]]:
        """The calls that set each parameter's gradient to zero, or took it away."""
        gone = self._index.cleared_at
        return {
            tensor: sorted({*self.zeroed.get(tensor, ()), *gone.get(tensor, ())}) for tensor in {*self.zeroed, *gone}
        }

    @cached_property
    def steps(self) -> dict[int, list[int]]:
        """The steps of optimizers that wrote each parameter, or may have."""
        index, found = self._index, dict[int, set[int]]()
        writes = ((op, tensor) for op, tensor, _, _ in all_writes(index))
        for op, tensor in chain(writes, possible_writes(index)):
            if op < index.op_count and tensor in self.passes and is_step(index, op):
                found.setdefault(tensor, set()).add(op)
        return {tensor: sorted(ops) for tensor, ops in found.items()}

    def applied(self, tensor: int, step: int) -> list[int]:
        """The passes whose gradients a step applied to a parameter: those since it was cleared, or stepped, before."""
        since = max(last_before(self.cleared.get(tensor, []), step), last_before(self.steps[tensor], step))
        return ops_between(self.passes[tensor], since, step)

    def applied_to_all(self, tensors: Iterable[int], step: int) -> list[int]:
        """These passes, where they are the same for all of some parameters; else none."""
        found = {tuple(self.applied(tensor, step)) for tensor in tensors}
        return list(found.pop()) if len(found) == 1 else []

    def zeroed_before(self, tensor: int, step: int) -> int:
        """What had set a parameter's gradient to zero, and was the last to change it before a step; else NONE."""
        last_pass, put, zeroed = (
            last_before(ops.get(tensor, []), step) for ops in (self.passes, self.put, self.zeroed)
        )
        return zeroed if zeroed > max(last_pass, put) and last_pass > NONE else NONE


def last_before(ops: list[int], op: int) -> int:
    """The last of some ops in order that is before another, or NONE."""
    position = bisect_left(ops, op)
    return ops[position - 1] if position else NONE


def ops_between(ops: list[int], after: int, before: int) -> list[int]:
    """Those of some ops in order that are after one op and before another."""
    return ops[bisect_right(ops, after) : bisect_left(ops, before)]


def first_after(ops: list[int], op: int) -> int:
    """The first of some ops in order that is after another, or NONE."""
    position = bisect_right(ops, op)
    return ops[position] if position < len(ops) else NONE
