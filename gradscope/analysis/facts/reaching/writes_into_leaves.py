"""Writes into the leaves that a loss was computed from, of values that another leaf gave: the graph begins anew there.

``p.data = p.data - rate * g``, or ``p.copy_(p - rate * g)`` under ``no_grad``: what ``p`` gives from then on depends on
``rate`` and on what ``g`` was computed from, and no gradient leads back to either.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator
from functools import cached_property

from gradscope.analysis.facts.reaching.left_values import FOLLOWED
from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.facts.writes import replaced_memory, writes_by_program
from gradscope.analysis.index import Index
from gradscope.recording.rows import OpKind

_LOAD = "nn.Module.load_state_dict"
_DEEP = "nn.Parameter.__deepcopy__"
_COPYING = frozenset((_LOAD, _DEEP, "Tensor.copy_", "Tensor.data.__set__"))
_SAME = frozenset(
    f"Tensor.{name}" for name in ("detach", "data.__get__", "clone", "to", "cpu", "cuda", "contiguous", "__deepcopy__")
)
_LONGEST = 6
"""Calls that hand on the same values, one after the other."""


class WritesIntoLeaves:
    """Finds them between two passes."""

    def __init__(self, index: Index, flow: Flow) -> None:
        self._index = index
        self._flow = flow

    def computed_from(self, leaf: int, steps: Collection[int], since: int, until: int) -> list[tuple[int, int]]:
        """The writes of what was computed from a leaf into others, which a root was then computed from.

        Results with a graph are followed first: what is written with one was meant to be trained through.

        Returns:
            The op of each, and the leaf that it wrote into.
        """
        for must_track in (True, False):
            found = list(self._found(leaf, steps, since, until, must_track=must_track))
            if found:
                return sorted(found)
        return []

    def _found(
        self, leaf: int, steps: Collection[int], since: int, until: int, *, must_track: bool
    ) -> Iterator[tuple[int, int]]:
        index, stack, seen = self._index, [leaf], {leaf}
        while stack and len(seen) < FOLLOWED:
            one = stack.pop()
            for op in self._flow.uses_of(one, until):
                if op <= since:
                    continue
                if one != leaf:
                    own = index.storage_at(one, op - 1)
                    written = self._leaves_written(op, self._written.get(op, ()), steps, until)
                    yield from ((op, into) for into in written if index.storage_at(into, op - 1) != own)
                made = (result for result in index.tensors_made(op) if result not in seen)
                new = [result for result in made if not must_track or index.requires_grad(result, op + 1)]
                seen.update(new)
                stack += new

    def copied_from(self, leaf: int, steps: Collection[int], since: int, until: int) -> int:
        """The last call that copied a leaf's values into another one, which a root was then computed from; -1 for none.

        ``fast.load_state_dict(meta.state_dict())``.
        """
        own, copies = self._index.storage_at(leaf, until), self._copies
        for op in reversed(copies[bisect_right(copies, since) : bisect_left(copies, until)]):
            into = {memory for memory, source in self._copied(op) if source == own != memory}
            written = self._leaves_written(op, into, steps, until) if into else ()
            if any(one != leaf for one in written):
                return op
        return -1

    def _copied(self, op: int) -> Iterator[tuple[int, int]]:
        """The blocks into which a call copied, each with the block whose values those are."""
        index, func, taken = self._index, self._index.func(op), list(self._index.uses.of(op))
        if func == _DEEP:
            sources = [index.storage_at(tensor, op) for tensor in taken]
            made = dict.fromkeys(index.storage_at(tensor, op) for tensor in index.tensors_made(op))
            new = [memory for memory in made if memory not in sources]
            yield from zip(new, sources, strict=True) if len(new) == len(sources) else ()
            return
        pairs = zip(taken[::2], taken[1::2], strict=False) if func == _LOAD else [(taken[0], taken[-1])]
        for into, value in pairs:
            yield index.storage_at(into, op), self._storage_of_values(value, op)

    def _leaves_written(self, op: int, blocks: Collection[int], steps: Collection[int], until: int) -> list[int]:
        """The leaves on blocks that an op wrote, from which a root was computed by what came after."""
        index = self._index
        found = []
        for storage in blocks:
            for leaf in self._leaves_on.get(storage, ()):
                used = (later for later in index.users.of(leaf) if op < later < until)
                if leaf in steps and any(made in steps for later in used for made in index.tensors_made(later)):
                    found.append(leaf)
        return found

    def _storage_of_values(self, tensor: int, op: int) -> int:
        """The memory whose values a tensor has, through copies of them."""
        for _ in range(_LONGEST):
            made = self._index.made_by(tensor)
            if not 0 <= made < self._index.op_count or self._index.method(made) not in _SAME:
                break
            taken = self._index.uses.of(made)
            if len(taken) != 1:
                break
            tensor = taken[0]
        return self._index.storage_at(tensor, op)

    @cached_property
    def _copies(self) -> list[int]:
        return self._index.calls_of(_COPYING.__contains__)

    @cached_property
    def _written(self) -> dict[int, set[int]]:
        """For each call that wrote into memory: the blocks, after it."""
        index, kinds = self._index, self._index.recording.ops.column("kind")
        found: dict[int, set[int]] = {}
        for op, tensor, *_ in (*writes_by_program(index), *replaced_memory(index)):
            if kinds[op] != OpKind.STEP:
                found.setdefault(op, set()).add(index.storage_at(tensor, op))
        return found

    @cached_property
    def _leaves_on(self) -> dict[int, list[int]]:
        """For each memory block the leaves that require grad and were put on it at one time."""
        index, found = self._index, dict[int, list[int]]()
        for tensor in range(len(index.recording.tensors)):
            if index.is_leaf_with_grad(tensor, index.op_count):
                found.setdefault(index.recording.tensors.column("storage")[tensor], []).append(tensor)
        for op, tensor, _ in replaced_memory(index):
            if index.is_leaf_with_grad(tensor, index.op_count):
                found.setdefault(index.storage_at(tensor, op), []).append(tensor)
        return found
