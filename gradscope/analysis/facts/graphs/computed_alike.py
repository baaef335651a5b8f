"""Whether two results were computed in the same way of the same tensors, so that they are equal, as are their graphs.

The same calls, made by the same places of the source, took what was the same, up to tensors that both took and that
nothing wrote in between. What a call drew differs from one time to the other.
"""

from __future__ import annotations

import re
from functools import cached_property

from gradscope.analysis.facts.writes import all_writes, possible_writes, replaced_memory
from gradscope.analysis.index import Index
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import OpKind

_DRAWS = re.compile(r".*(rand|bernoulli|normal|uniform|dropout|poisson|multinomial|sample|gumbel|Function\.apply).*")
"""What draws, or may, as nothing is known of it."""
_MAKES = re.compile(r"torch\.(zeros|ones|eye|arange|zeros_like|ones_like)")
"""What makes the same of no tensor, each time."""
_BY_NUMBER = re.compile(r"Tensor\.(add|sub|rsub|mul|div|pow|floor_divide|remainder|clamp)_?")
"""What may be given a number that is another one the next time."""
_NUMBER = re.compile(r"(^|[-+*/(,=] *)\d")
_MOST = 3000
"""Pairs of tensors that are compared."""


class ComputedAlike:
    """Compares the results of one recording."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._made_at, self._flags = (index.recording.tensors.column(name) for name in ("op", "flags"))

    def calls(self, first: int, second: int) -> list[tuple[int, int]] | None:
        """The pairs of calls that computed two tensors alike; None where they were not, or where that is not known."""
        index = self._index
        seen, todo, found = set[tuple[int, int]](), [(first, second, index.op_count, index.op_count)], set()
        while todo:
            one, other, at, then = todo.pop()
            if (one, other) in seen:
                continue
            seen.add((one, other))
            if len(seen) > _MOST:
                return None
            if one == other:
                if at != then and self._is_written(one, min(at, then), max(at, then)):
                    return None
                continue
            pair = self._makers(one, other)
            if pair is None:
                return None
            found.add(pair)
            taken = [index.uses.of(op) for op in pair]
            todo += [(*both, *pair) for both in zip(*taken, strict=True)]
        return sorted(found)

    def _makers(self, one: int, other: int) -> tuple[int, int] | None:
        """The calls that made two tensors, where they are the same but for what they took."""
        index, ops = self._index, self._index.recording.ops
        if self._flags[one] & EXTERNAL or self._flags[other] & EXTERNAL:
            return None
        first, second = self._made_at[one], self._made_at[other]
        spans, funcs, kinds = ops.column("span"), ops.column("func"), ops.column("kind")
        if max(first, second) >= index.op_count or first == second or kinds[first] not in (OpKind.CALL, OpKind.GROUP):
            return None
        if spans[first] != spans[second] or funcs[first] != funcs[second] or kinds[first] != kinds[second]:
            return None
        layouts = index.recording.tensors.column("layout")
        if layouts[one] != layouts[other] or self._offsets.get(one) != self._offsets.get(other):
            return None
        made, taken = [index.tensors_made(op) for op in (first, second)], [index.uses.of(op) for op in (first, second)]
        if len(made[0]) != len(made[1]) or made[0].index(one) != made[1].index(other):
            return None
        if len(taken[0]) != len(taken[1]) or _DRAWS.fullmatch(index.func(first)):
            return None
        if not len(taken[0]) and not _MAKES.fullmatch(index.func(first)):
            return None
        return (first, second) if len(taken[0]) != 1 or self._is_given_the_same(first, one) else None

    def _is_given_the_same(self, first: int, made: int) -> bool:
        """Whether calls of one place that took one tensor each are known to have been given the same numbers."""
        method = self._index.method(first)
        if method == "Tensor.__getitem__":
            return made in self._offsets
        if not _BY_NUMBER.fullmatch(method):
            return True
        return _NUMBER.search(self._index.span_source(first, exact=True)) is not None

    def _is_written(self, tensor: int, since: int, until: int) -> bool:
        """Whether something wrote into a tensor's memory between two calls."""
        storage = self._index.storage_at(tensor, since)
        return any(since <= op <= until for op in self._written.get(storage, ()))

    @cached_property
    def _written(self) -> dict[int, list[int]]:
        index, found = self._index, dict[int, list[int]]()
        for op, tensor, before, _ in all_writes(index):
            if op != self._made_at[tensor] or self._flags[tensor] & EXTERNAL or before:
                found.setdefault(index.storage_at(tensor, op), []).append(op)
        for op, tensor in possible_writes(index):
            found.setdefault(index.storage_at(tensor, op), []).append(op)
        for op, _, storage in replaced_memory(index):
            found.setdefault(storage, []).append(op)
        return found

    @cached_property
    def _offsets(self) -> dict[int, int]:
        aliases = self._index.recording.aliases
        return dict(zip(*(aliases.column(name) for name in ("tensor", "offset")), strict=True))
