"""Learned parameters that go into a loss as plain numbers, while all their gradient comes from a term of their own."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from heapq import heappop, heappush
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.gradients import Gradients
from gradscope.analysis.facts.reaching.built_by_text import BuiltByText
from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.index import Index
from gradscope.frames.values.value_slices import lines_behind
from gradscope.recording import NONE
from gradscope.recording.flags import RAISED
from gradscope.recording.rows import OpKind

_SUMS = frozenset("add sub rsub __rsub__ add_ sub_ __iadd__ __isub__ stack cat sum mean".split())  # noqa: SIM905
_PRODUCTS = frozenset("mul div true_divide rdiv __rdiv__ __rtruediv__ pow __pow__ mul_ div_ __imul__".split())  # noqa: SIM905
_MOST = 2_000
"""Calls with what was made of a parameter that are looked at, and calls behind a loss."""


class WeightAsNumber(NamedTuple):
    """One parameter, in one pass."""

    tensor: int
    root: int
    export: int
    """The call that took its values out of torch."""
    used: int
    """The call that the numbers went into."""
    op: int
    """The pass."""


class WeightsAsNumbers:
    """Looks at the last pass of each place."""

    def __init__(self, index: Index, flow: Flow, events: Events, gradients: Gradients) -> None:
        self._index = index
        self._flow = flow
        self._events = events
        self._gradients = gradients
        self._built = BuiltByText(index)

    def found(self) -> Iterator[WeightAsNumber]:
        """Each parameter that an optimizer holds, whose only gradient in a pass does not depend on what it weighs."""
        index, flags = self._index, self._index.recording.ops.column("flags")
        for group in self._gradients.groups:
            op = group.last_op
            if flags[op] & RAISED or index.recording.ops.column("kind")[op] != OpKind.BACKWARD:
                continue
            since = self._since(op)
            between = self._exports[bisect_left(self._exports, since) : bisect_left(self._exports, op)]
            held = [one for one, entry in group.tensors.items() if entry.received and self._times_given[one] == 1]
            for tensor in self._events.in_optimizers.keys() & held if between else ():
                exports = self._exports_of(tensor, since, op)
                others = [one for one in between if one not in exports]
                for root in self._gradients.roots[op] if exports else ():
                    used = self._used(root, op, exports) if self._is_alone(tensor, root, op, others) else None
                    if used is not None:
                        yield WeightAsNumber(tensor, root, *used, op)

    @cached_property
    def _times_given(self) -> Counter[int]:
        """For each leaf, how many places have passes that gave it a gradient."""
        return Counter(
            tensor for group in self._gradients.groups for tensor, entry in group.tensors.items() if entry.received
        )

    def _since(self, op: int) -> int:
        before = bisect_left(self._passes, op)
        return self._passes[before - 1] if before else NONE

    def _exports_of(self, tensor: int, since: int, op: int) -> list[int]:
        """The calls between two others that took out of torch what was computed from a leaf alone."""
        index, kinds = self._index, self._index.recording.ops.column("kind")
        alone, found, stack = {tensor}, set[int](), [tensor]
        while stack and len(alone) < _MOST:
            for user in index.users.of(stack.pop()):
                if not since < user < op or not alone.issuperset(index.uses.of(user)):
                    continue
                if kinds[user] == OpKind.EXPORT:
                    found.add(user)
                new = [one for one in index.tensors_made(user) if one not in alone]
                alone.update(new)
                stack += new
        return sorted(found)

    def _is_alone(self, tensor: int, root: int, op: int, others: list[int]) -> bool:
        """Whether what leads from a leaf to a root takes in nothing else but by sums: its gradient is its own affair.

        A number is nothing else where it was not taken out of another tensor.
        """
        index, since = self._index, self._since(op)
        mixed, pure = set[int](), {tensor}
        ops = [one for one in index.users.of(tensor) if since < one < op]
        ops.sort()
        seen = set(ops)
        while ops and len(seen) < _MOST:
            one = heappop(ops)
            made = [result for result in index.tensors_made(one) if index.requires_grad(result, one + 1)]
            name, taken = index.func(one).rpartition(".")[2], index.uses.of(one)
            if not made:
                continue
            foreign = [given for given in taken if given not in pure and given not in mixed]
            is_mixed = bool(foreign) or any(given in mixed for given in taken)
            if is_mixed and name not in _SUMS and (name not in _PRODUCTS or len(taken) > 1):
                return False
            if name in _PRODUCTS and len(taken) == 1 and self._takes_number_of(one, others):
                return False
            (mixed if is_mixed else pure).update(made)
            for user in (user for result in made for user in index.users.of(result) if user < op):
                if user not in seen:
                    seen.add(user)
                    heappush(ops, user)
        return not ops and root in pure | mixed

    def _used(self, root: int, op: int, exports: list[int]) -> tuple[int, int] | None:
        """The call that took values out of torch, and the one behind a root that computes with them."""
        index, since = self._index, self._since(op)
        steps = self._flow.origins(root, op)
        made_at = index.recording.tensors.column("op")
        for built in filter(None, map(self._built.of, steps)):
            export = next((one for one in self._built.exports(built) if one in exports), NONE)
            if export >= 0:
                return export, built.op
        ops = sorted({made_at[one] for one in steps if since < made_at[one] < op}, reverse=True)
        for one in ops[:_MOST]:
            name, taken = index.func(one).rpartition(".")[2], index.uses.of(one)
            if name in _PRODUCTS and len(taken) == 1 and taken[0] in steps:
                export = self._takes_number_of(one, exports)
                if export:
                    return export, one
        return None

    def _takes_number_of(self, op: int, exports: list[int]) -> int:
        """The last of some calls that took values out at a line behind what another call is given; 0 for none."""
        index = self._index
        where = index.statements[index.op_statement[op]]
        if where.file < 0 or not index.recording.files[where.file].is_user:
            return 0
        lines = lines_behind(
            index.recording.files[where.file].text, index.op_line(op), index.span_source(op, exact=True)
        )
        there = [
            one
            for one in exports
            if one < op and index.op_line(one) in lines and index.statements[index.op_statement[one]].file == where.file
        ]
        return max(there, default=0)

    @cached_property
    def _passes(self) -> list[int]:
        return self._index.of_kind(OpKind.BACKWARD)

    @cached_property
    def _exports(self) -> list[int]:
        return self._index.of_kind(OpKind.EXPORT)
