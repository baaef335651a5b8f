"""Where values came from: the way from a tensor back through the ops that made it, tracked by autograd or not.

A step of the way is only taken where it was seen: an op took a tensor in and gave another, or wrote into its memory, or
a tensor lies on another's memory. Two things that look like steps are none: tensors that one call into torch's own
Python made side by side (the parameters of a list of layers), and what is written into a leaf that requires grad (it is
a starting point of the graph, whatever its values came from).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import deque
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.storage_groups import StorageGroups, overlap
from gradscope.analysis.facts.tracking.grad_regions import GradRegions
from gradscope.analysis.facts.tracking.reentrant_checkpoints import ReentrantCheckpoints
from gradscope.analysis.facts.tracking.transform_results import TransformResults
from gradscope.analysis.facts.tracking.values_taken import ValuesTaken
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, LEAF, MADE, PARAMETER
from gradscope.recording.rows import Field, OpKind

WALK_LIMIT = 200_000
"""Tensors looked at in one walk: enough for any one step of training, and a bound on programs without end."""

_PRICE_OF_COPY = 1000
"""What a deep copy counts among the cuts of competing ways: it is the last to be blamed."""

_PRICE_OF_SELECTION = 2
"""What a call counts whose result are indices or truth values: where a cut lies on another way, that one is meant."""

_PRICE_OF_START = 100
"""What a cut counts that only set something up, in an ``__init__`` or before the last pass of the same line: where
another way is cut in each round, that one is meant."""

_LOOKS_AFTER = re.compile(
    r"nn\.Module\.(zero_grad|requires_grad_|(load_)?state_dict|float|double|half|bfloat16|to|type|cpu|cuda)"
    r"|nn\.utils\.vector_to_parameters|nn\.Parameter\.__deepcopy__"
)
"""Calls that compute nothing with the parameters that they are given."""

_VALUES_START_ANEW = frozenset((OpKind.BACKWARD, OpKind.STEP, OpKind.READ_GRAD, OpKind.MODE))


class Step(NamedTuple):
    """One step of a way from a tensor to the root of a walk."""

    op: int
    """The op that took the tensor in; -1 at the root."""
    gives: int
    """The tensor that the op gave or wrote, one step nearer to the root."""
    loses: bool = False
    """Autograd tracked what went in and does not track what came out."""


class Flow:
    """Walks over the values of a run."""

    def __init__(self, index: Index, sharing: StorageGroups) -> None:
        self._index = index
        self._sharing = sharing
        self._values = ValuesTaken(index)
        self._regions = GradRegions(index)
        self.transforms = TransformResults(index)
        self._reentrant = ReentrantCheckpoints(index)
        self.walked = 0
        """Tensors looked at so far, in all walks: what they cost."""

    @cached_property
    def _written_at(self) -> dict[int, list[tuple[int, int]]]:
        """For each memory block: the ops that wrote into it, and through which tensor; not steps of optimizers, which
        may be as many as the ops."""
        kinds, tensors = self._index.recording.ops.column("kind"), self._index.recording.tensors
        storages, made_at = tensors.column("storage"), tensors.column("op")
        written: dict[int, list[tuple[int, int]]] = {}
        for op, tensor, before, _ in all_writes(self._index):
            if before == NONE:  # running statistics: no step's values are to be traced to all batches before it
                continue
            if op == made_at[tensor] and before == 0 and tensor in self._sharing.alias_row:
                continue  # (an alias is born with the version that its base had: nobody wrote)
            if op < self._index.op_count and kinds[op] not in _VALUES_START_ANEW:
                written.setdefault(storages[tensor], []).append((op, tensor))
        return written

    @cached_property
    def _got_a_node(self) -> frozenset[int]:
        """Tensors that had no ``grad_fn`` when they were first seen and got one later."""
        changes = self._index.recording.changes
        columns = (changes.column(name) for name in ("tensor", "field", "after"))
        return frozenset(t for t, field, after in zip(*columns, strict=True) if field == Field.GRAD_FN and after >= 0)

    def origins(self, root: int, before_op: int) -> dict[int, Step]:
        """All tensors whose values went into ``root`` by calls before an op, each by the way that autograd lost least.

        Returns:
            For each, the step that leads from it towards the root.
        """
        last_pass = self.pass_before(before_op)
        steps: dict[int, Step] = {root: Step(-1, root)}
        cost = {root: 0}
        queue = deque([(root, before_op, 0)])
        while queue and len(steps) < WALK_LIMIT:
            tensor, until, paid = queue.popleft()
            if paid > cost[tensor]:
                continue
            for taken, op, loses in self._steps_to(tensor, until):
                price = paid + (self._price(op, tensor, last_pass) if loses else 0)
                if price < cost.get(taken, WALK_LIMIT):
                    cost[taken] = price
                    steps[taken] = Step(op, tensor, loses)
                    (queue.append if loses else queue.appendleft)((taken, op, price))
        self.walked += len(steps)
        return steps

    def _steps_to(self, tensor: int, until: int) -> list[tuple[int, int, bool]]:
        """What a tensor's values came from directly, before an op: the tensor, the op, whether the graph was lost."""
        index, recording = self._index, self._index.recording
        kinds, op_flags = recording.ops.column("kind"), recording.ops.column("flags")
        made_at, flags = recording.tensors.column("op"), recording.tensors.column("flags")[tensor]
        made = made_at[tensor]
        found: list[tuple[int, int, bool]] = []
        if made < index.op_count and not flags & EXTERNAL and kinds[made] not in _VALUES_START_ANEW:
            is_tracked = not flags & LEAF or tensor in self._got_a_node
            is_number = not is_tracked and kinds[made] == OpKind.GROUP
            is_number = is_number and (index.is_floating(tensor) or index.has_one_element(tensor))
            is_beside = is_number and self._gave_a_graph(made)
            let_go = index.let_go_at(tensor, until)
            for taken in self._values.of(made):
                if is_beside and index.requires_grad(taken, made):
                    continue  # (what has a graph went into the result: that this came from it, too, was not seen)
                if made_at[taken] != made or not index.is_made_inside(taken):
                    if is_tracked and let_go >= 0 and index.requires_grad(taken, made):
                        found.append((taken, let_go, True))
                    else:
                        found.append((taken, made, not is_tracked and self._is_lost(taken, made)))
            if op_flags[made] & MADE or flags & PARAMETER:
                found += self._from_base(tensor, made)
                found += [(taken, made, False) for taken in self.transforms.taken(tensor) if not flags & PARAMETER]
        elif flags & EXTERNAL and made < index.op_count:
            found += self._from_base(tensor, made)
            found += [(taken, made, False) for taken in self.transforms.taken(tensor) if not flags & PARAMETER]
        for op, written in self._writes_before(tensor, until):
            if index.is_leaf_with_grad(tensor, op) or index.is_leaf_with_grad(written, op):
                continue
            is_tracked = index.requires_grad(written, op + 1) and self._shares_history(written, tensor)
            for taken in self._values.of(op):
                if taken not in (tensor, written):
                    found.append((taken, op, not is_tracked and self._is_lost(taken, op)))
        return found

    def _gave_a_graph(self, op: int) -> bool:
        """Whether one of the tensors that an op made has a graph."""
        return any(not self._index.is_leaf(one) for one in self._index.tensors_made(op))

    def _price(self, op: int, gives: int, last_pass: int) -> int:
        """What a cut counts among those of competing ways, where one pass of the same line was the last before."""
        if self.is_copy(op):
            return _PRICE_OF_COPY
        if op < last_pass or self._is_set_up(op):
            return _PRICE_OF_START
        return 1 if self._index.is_floating(gives) else _PRICE_OF_SELECTION

    def _is_set_up(self, op: int) -> bool:
        function = self._index.recording.text(self._index.statements[self._index.op_statement[op]].function)
        return function.rpartition(".")[2] == "__init__"

    def pass_before(self, op: int) -> int:
        """The last pass before one that the same statement began; NONE where that is none, or its first."""
        passes = self._passes_of.get(self._index.op_statement[op], []) if op < self._index.op_count else []
        at = bisect_left(passes, op)
        return passes[at - 1] if 0 < at < len(passes) and passes[at] == op else NONE

    @cached_property
    def _passes_of(self) -> dict[int, list[int]]:
        """For each statement the backward passes that it began."""
        found: dict[int, list[int]] = {}
        for op in sorted(set(self._index.recording.backwards.column("op"))):
            found.setdefault(self._index.op_statement[op], []).append(op)
        return found

    def is_copy(self, op: int) -> bool:
        """Whether an op is a deep copy, of a module or a tensor: no gradient was meant to pass it."""
        return self._index.func(op).endswith("__deepcopy__")

    def _is_lost(self, taken: int, op: int) -> bool:
        """Whether an op whose result is not tracked took in a tensor that was.

        What the forward of a custom Function ran is never tracked: its result gets a node when the Function is done.
        And a gradient that a pass made no graph for, though it was asked to, is a constant: that of a sum.
        """
        if not self._index.requires_grad(taken, op) or op in self._index.creating_graphs:
            return False
        return not self.is_inside_function(op)

    def is_inside_function(self, op: int) -> bool:
        """Whether an op ran in the forward of a custom Function of the program's, not in that of a checkpoint."""
        return self._regions.is_inside_function(op) and self._reentrant.around(op) is None

    def _from_base(self, tensor: int, op: int) -> list[tuple[int, int, bool]]:
        """What a tensor that no seen op made lies on: ``nn.Parameter(w * 2)`` is a new leaf on the product's memory."""
        base = self._sharing.base_of(tensor)
        made_at, flags = (self._index.recording.tensors.column(name) for name in ("op", "flags"))
        if base < 0 or made_at[base] >= op:
            return []
        is_tracked = not flags[tensor] & LEAF or tensor in self._got_a_node
        return [(base, op, not is_tracked and self._index.requires_grad(base, op))]

    def _writes_before(self, tensor: int, until: int) -> list[tuple[int, int]]:
        """Writes into a tensor's memory after it was made and before an op."""
        tensors = self._index.recording.tensors
        storage, born = tensors.column("storage")[tensor], tensors.column("op")[tensor]
        writes = self._written_at.get(storage) if storage >= 0 else None
        if not writes:
            return []
        place = self._sharing.range_of(tensor)
        return [
            (op, written)
            for op, written in writes
            if born <= op < until
            and (written == tensor or overlap(place, self._sharing.range_of(written)))
            and not (op == born and written == tensor)
        ]

    def _shares_history(self, written: int, tensor: int) -> bool:
        """Whether what autograd tracks of a write through one tensor holds for another on its memory."""
        versions = self._sharing.versions
        return written == tensor or versions.of(written) == versions.of(tensor)

    def origins_of_all(self, roots: list[int], before_op: int) -> dict[int, Step]:
        """The same for several tensors."""
        steps: dict[int, Step] = {}
        for root in roots:
            steps |= self.origins(root, before_op)
        return steps

    def uses_of(self, tensor: int, before_op: int) -> list[int]:
        """The ops before another one that took in a tensor, in the order of the run.

        Ops that wrote the tensor (an initialisation, an average of weights) or set something of it did not use it.
        """
        recording = self._index.recording
        kinds, tensors = recording.ops.column("kind"), recording.tensors
        storage, born = tensors.column("storage")[tensor], tensors.column("op")[tensor]
        written_at = {op for op, written in self._written_at.get(storage, ()) if written == tensor}
        return [
            op
            for op in self._index.users.of(tensor)
            if op < before_op
            and op not in written_at
            and kinds[op] not in _VALUES_START_ANEW
            and not (op == born and self._index.is_made_inside(tensor))
            and not (kinds[op] == OpKind.SET and self._index.uses.of(op)[0] == tensor)
        ]

    def computed_with(self, tensor: int, before_op: int) -> list[int]:
        """Those of these ops that computed something: not what clears its gradient, switches it or asks about it."""
        index, kinds = self._index, self._index.recording.ops.column("kind")
        return [
            op
            for op in self.uses_of(tensor, before_op)
            if kinds[op] not in (OpKind.GRAD, OpKind.SET)
            and (kinds[op] != OpKind.GROUP or index.tensors_made(op))
            and not _LOOKS_AFTER.fullmatch(index.func(op))
        ]

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

    def path(self, steps: dict[int, Step], tensor: int) -> list[Step]:
        """The way from a tensor to the root of a walk, the tensor's step first."""
        way: list[Step] = []
        while tensor in steps and steps[tensor].op >= 0:
            way.append(steps[tensor])
            tensor = steps[tensor].gives
        return way
