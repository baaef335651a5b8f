"""One gradient that was put into ``.grad`` of two parameters, and that is written in place once for each of them.

``torch.autograd.grad`` gives one and the same tensor for two inputs that are added, where ``backward`` makes a copy.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.writes import all_steps, all_writes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import Field, GradOutcome

_SETS = "Tensor.grad.__set__"
_SAME_AGAIN = frozenset(
    [
        "zero_",
        "zero_grad",
        "fill_",
        "copy_",
        "clamp_",
        "clamp_min_",
        "clamp_max_",
        "clip_",
        "clip_grad_value_",
        "nan_to_num_",
        "sign_",
    ]
)
"""What gives the same a second time."""


class GradientOfTwo(NamedTuple):
    """What two parameters had as their gradient at once."""

    gradient: int
    parameters: tuple[int, ...]
    given: int
    """The op that put it into ``.grad`` of the last of them."""
    writes: tuple[int, ...]
    """The ops that wrote it once for each: one that did so for all, or several runs of one statement."""


def gradients_of_two(index: Index) -> Iterator[GradientOfTwo]:
    """One for each statement that gives such a gradient, the first time."""
    shared = _SharedGradientWrites(index)
    said = set[int]()
    for gradient, parameters, given, end in shared.held:
        if index.op_statement[given] in said:
            continue
        writes = shared.twice_within(gradient, parameters, given, end)
        if writes:
            said.add(index.op_statement[given])
            yield GradientOfTwo(gradient, parameters, given, writes)


class _SharedGradientWrites:
    def __init__(self, index: Index) -> None:
        self._index = index
        self.held = list(self._all_held())
        self._raised: dict[int, dict[int, int]] = {}
        """By op: how far it raised the version of each tensor."""
        for op, tensor, before, after in all_writes(index) if self.held else ():
            if op < index.op_count and before >= 0:
                self._raised.setdefault(op, {})[tensor] = after - before

    def _all_held(self) -> Iterator[tuple[int, tuple[int, ...], int, int]]:
        """Gradient, its parameters, the op that gave it to the last of them, and the op up to which all have it."""
        index = self._index
        columns = (index.recording.changes.column(name) for name in ("op", "tensor", "field", "after"))
        now, holding = dict[int, int](), dict[int, dict[int, int]]()
        found: dict[int, tuple[int, tuple[int, ...], int, int]] = {}
        for op, parameter, field, gradient in zip(*columns, strict=True):
            if field != Field.GRAD:
                continue
            before = now.pop(parameter, NONE)
            if before in found:
                yield (*found.pop(before)[:3], op)
            if before >= 0:
                holding[before].pop(parameter, None)
            if gradient < 0:
                continue
            one = self._memory_of(gradient)
            now[parameter] = one
            of = holding.setdefault(one, {})
            of[parameter] = op
            if len(of) > 1 and index.func(op) == _SETS:
                found[one] = (gradient, tuple(of), op, index.op_count)
        yield from found.values()

    @cached_property
    def _known(self) -> dict[tuple[int, int, int], int]:
        return {}

    @cached_property
    def _steps(self) -> list[int]:
        return all_steps(self._index)

    def _memory_of(self, gradient: int) -> int:
        """A tensor that stands for all of its size at its place in memory: ``autograd.grad`` may give views of it."""
        tensors = self._index.recording.tensors
        layout = self._index.recording.layouts[tensors.column("layout")[gradient]]
        place = tensors.column("storage")[gradient], self._offsets.get(gradient, 0), layout.nbytes
        return self._known.setdefault(place, gradient)

    @cached_property
    def _offsets(self) -> dict[int, int]:
        """Where on its storage each tensor begins that is not the first that was seen there."""
        aliases = self._index.recording.aliases
        return dict(zip(aliases.column("tensor"), aliases.column("offset"), strict=True))

    def twice_within(self, gradient: int, parameters: tuple[int, ...], given: int, end: int) -> tuple[int, ...]:
        """The writes of one statement, up to the next step, that came at least once for each parameter."""
        index, steps = self._index, self._steps
        step = next((op for op in steps[bisect_left(steps, given) :] if set(parameters) & set(index.uses.of(op))), end)
        end, memory = min(end, step), self._memory_of(gradient)
        by_statement: dict[tuple[int, str], dict[int, int]] = {}
        for op in range(given + 1, end):
            raised = self._raised.get(op, {})
            times = max((by for tensor, by in raised.items() if self._memory_of(tensor) == memory), default=0)
            if times and _name(index, op) not in _SAME_AGAIN:
                others = {by for tensor, by in raised.items() if self._memory_of(tensor) != memory}
                is_once = bool(others) and min(others) >= times
                runs = by_statement.setdefault((index.op_statement[op], index.func(op)), {})
                runs[op] = 1 if is_once else times
        written = (tuple(ops) for ops in by_statement.values() if sum(ops.values()) >= len(parameters))
        return next(written, self._added_to(parameters, given, end))

    def _added_to(self, parameters: tuple[int, ...], given: int, end: int) -> tuple[int, ...]:
        """The first pass between two ops that added to the gradient of each of some parameters."""
        for op in range(given + 1, end):
            if all((op, one) in self._accumulated for one in parameters):
                return (op,)
        return ()

    @cached_property
    def _accumulated(self) -> frozenset[tuple[int, int]]:
        rows = self._index.recording.gradients
        columns = (rows.column(name) for name in ("op", "tensor", "outcome"))
        return frozenset((op, one) for op, one, how in zip(*columns, strict=True) if how == GradOutcome.ACCUMULATED)


def _name(index: Index, op: int) -> str:
    return index.method(op).rpartition(".")[2].removeprefix("_foreach_")
