"""Where values came from: the way from a tensor back through the ops that made it, tracked by autograd or not."""

from __future__ import annotations

from functools import cached_property

from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import OpKind

WALK_LIMIT = 200_000
"""Tensors looked at in one walk: enough for any one step of training, and a bound on programs without end."""

_VALUES_START_ANEW = frozenset((OpKind.BACKWARD, OpKind.GRAD, OpKind.STEP, OpKind.READ_GRAD))


class Flow:
    """Walks over the values of a run."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.walked = 0
        """Tensors looked at so far, in all walks: what they cost."""

    @cached_property
    def _written_at(self) -> dict[int, list[int]]:
        """For each tensor written in place: the ops that wrote it; not steps, which may be as many as the ops."""
        kinds = self._index.recording.ops.column("kind")
        written: dict[int, list[int]] = {}
        for op, tensor, _, _ in all_writes(self._index):
            if op < self._index.op_count and kinds[op] not in _VALUES_START_ANEW:
                written.setdefault(tensor, []).append(op)
        return written

    def origins(self, root: int, before_op: int) -> dict[int, tuple[int, int]]:
        """All tensors whose values went into ``root`` by calls before an op.

        Returns:
            For each, the op that took it in and the tensor which that op gave, one step nearer to the root.
        """
        tensors, kinds = self._index.recording.tensors, self._index.recording.ops.column("kind")
        made_at, flags = tensors.column("op"), tensors.column("flags")
        steps: dict[int, tuple[int, int]] = {root: (-1, root)}
        stack = [(root, before_op)]
        while stack and len(steps) < WALK_LIMIT:
            tensor, until = stack.pop()
            ops = [] if flags[tensor] & EXTERNAL else [made_at[tensor]]
            ops += [op for op in self._written_at.get(tensor, ()) if op < until]
            for op in ops:
                if op >= self._index.op_count or kinds[op] in _VALUES_START_ANEW:
                    continue
                for taken in self._index.uses.of(op):
                    if taken not in steps:
                        steps[taken] = (op, tensor)
                        stack.append((taken, op))
        self.walked += len(steps)
        return steps

    def origins_of_all(self, roots: list[int], before_op: int) -> dict[int, tuple[int, int]]:
        """The same for several tensors."""
        steps: dict[int, tuple[int, int]] = {}
        for root in roots:
            steps |= self.origins(root, before_op)
        return steps

    def uses_of(self, tensor: int, before_op: int) -> list[int]:
        """The ops before another one that took in a tensor, in the order of the run.

        Ops that wrote the tensor (an initialisation, an average of weights) did not use it.
        """
        kinds, written_at = self._index.recording.ops.column("kind"), set(self._written_at.get(tensor, ()))
        users = (op for op in self._index.users.of(tensor) if op < before_op)
        return [op for op in users if op not in written_at and kinds[op] not in _VALUES_START_ANEW]

    def goes_into(self, tensor: int, before_op: int) -> list[int]:
        """All ops before another one that took in a tensor or what was made from it, in the order of the run."""
        made = self._index.tensors_made
        ops: set[int] = set()
        stack, seen = [tensor], {tensor}
        while stack and len(seen) < WALK_LIMIT:
            for op in self.uses_of(stack.pop(), before_op):
                if op in ops:
                    continue
                ops.add(op)
                new = [result for result in made(op) if result not in seen]
                seen.update(new)
                stack += new
        self.walked += len(seen)
        return sorted(ops)

    def path(self, steps: dict[int, tuple[int, int]], tensor: int) -> list[int]:
        """The ops on the way from a tensor to the root of a walk, the tensor's first."""
        ops: list[int] = []
        while tensor in steps and steps[tensor][0] >= 0:
            op, tensor = steps[tensor]
            ops.append(op)
        return ops
