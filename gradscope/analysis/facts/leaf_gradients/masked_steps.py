"""Parameters whose entries a mask set to zero once, and which steps change after that.

Where the same mask is multiplied into their gradients from then on, that keeps the entries at zero only if a step is
made of the gradient alone: momentum from before moves them. Where nothing takes the mask any more, steps bring back
what was pruned. Which entries were to go is told by the mask: it was computed from the parameter, in a training.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import OpKind

STEPS = 2
"""Steps with a masked gradient from which on it counts."""
_FOLLOWED = 64
"""Tensors that a mask is made of that are followed."""
_MULTIPLIES = ("Tensor.mul_", "Tensor.__imul__")
_DRAWS = re.compile(r"rand|bernoulli|normal|uniform|dropout|multinomial")
_LOOKS = ("sum", "mean", "numel", "count_nonzero", "__repr__")
_CASTS = ("Tensor.float", "Tensor.to", "Tensor.type_as", "Tensor.type", "Tensor.double", "Tensor.half")


_FILLED_WITH = re.compile(r"\.(ones|zeros)(_like)?|\.new_(ones|zeros)")
_SETS_ITEMS = ("Tensor.__setitem__", "Tensor.index_fill_", "Tensor.masked_fill_", "Tensor.scatter_", "Tensor.fill_")
_BY_NUMBER = re.compile(r"(=\s*|,\s*(value=)?)(0|1|0\.0?|1\.0?|True|False)\s*\)?\s*$")
"""What sets items to zero or to one: ``keep[rows] = 0``, ``keep.index_fill_(0, rows, 0.0)``."""
_SAME_VALUES = ("clone", "view", "reshape", "expand", "expand_as", "unsqueeze", "contiguous", "detach", "repeat")
_STEPS_BACK = 8


class MaskedOnce(NamedTuple):
    """One parameter."""

    tensor: int
    masked: int
    """The call that set its entries to zero; none did again."""
    gradient_masked: int
    """The last call that multiplied its gradient by the mask; NONE where none did."""
    before: int
    """Steps before the first."""
    last: int
    """The last step with a masked gradient, or of all."""
    after: int
    """Steps after it."""


def masked_once(index: Index, lives: GradientLives) -> Iterator[MaskedOnce]:
    """Every such parameter; none whose mask is used for anything else: the weights in a forward, a step's own state."""
    finder = _MasksFinder(index, lives)
    for tensor, steps in lives.steps.items():
        found = finder.find(tensor, steps)
        if found is not None:
            yield found


class _MasksFinder:
    def __init__(self, index: Index, lives: GradientLives) -> None:
        self._index = index
        self._lives = lives

    @cached_property
    def _products(self) -> dict[int, list[tuple[int, int]]]:
        """For each tensor that something was multiplied by in place: the ops, and what was multiplied."""
        index, found = self._index, dict[int, list[tuple[int, int]]]()
        funcs = index.recording.ops.column("func")
        wanted = {func for func in set(funcs) if index.recording.text(func) in _MULTIPLIES}
        for op, func in enumerate(funcs):
            taken = list(index.uses.of(op)) if func in wanted else []
            if len(taken) == 2:
                found.setdefault(taken[1], []).append((op, taken[0]))
        return found

    @cached_property
    def _masks(self) -> dict[int, list[int]]:
        """For each memory block the masks that it was multiplied by."""
        found: dict[int, list[int]] = {}
        for mask, products in self._products.items():
            if self._is_mask(mask):
                for op, written in products:
                    found.setdefault(self._index.storage_at(written, op), []).append(mask)
        found.pop(NONE, None)
        return found

    def _is_mask(self, tensor: int) -> bool:
        """Whether its values are zeros and ones: it is made of bools, or its items were set so."""
        index, tensors = self._index, self._index.recording.tensors
        made = tensors.column("op")[tensor]
        if index.is_bool(tensor):
            return True
        is_cast = not tensors.column("flags")[tensor] & EXTERNAL and index.func(made) in _CASTS
        if is_cast and any(index.is_bool(one) for one in index.uses.of(made)[:1]):
            return True
        return self._is_set_by_numbers(tensor)

    def _is_set_by_numbers(self, tensor: int) -> bool:
        """Whether it was made of ones or zeros, and of its items some were set to the other number."""
        index, is_set = self._index, False
        for _ in range(_STEPS_BACK):
            made = index.made_by(tensor)
            writes = self._writes.get(index.storage_at(tensor, index.op_count), [])
            if not 0 <= made < index.op_count or not all(map(self._sets_by_number, writes)):
                return False
            is_set = is_set or bool(writes)
            if _FILLED_WITH.search(index.func(made)):
                return is_set
            taken = list(index.uses.of(made))
            if index.func(made).rpartition(".")[2] not in _SAME_VALUES or not taken:
                return False
            tensor = taken[0]
        return False

    def _sets_by_number(self, op: int) -> bool:
        index = self._index
        return index.func(op) in _SETS_ITEMS and _BY_NUMBER.search(index.op_place(op).source.strip()) is not None

    @cached_property
    def _writes(self) -> dict[int, list[int]]:
        """For each memory block the calls that wrote into it."""
        index, found = self._index, dict[int, list[int]]()
        for op, tensor, _, _ in writes_by_program(index):
            found.setdefault(index.storage_at(tensor, op), []).append(op)
        return found

    def find(self, tensor: int, steps: list[int]) -> MaskedOnce | None:
        index, own = self._index, self._index.storage_at(tensor, steps[-1])
        for mask in dict.fromkeys(self._masks.get(own, ())):
            products = self._products[mask]
            weights = [op for op, written in products if index.storage_at(written, op) == own]
            gradients = [op for op, written in products if self._lives.owners.get(self._base(written)) == tensor]
            if len(weights) + len(gradients) < len(products) or self._is_used_else(mask, {*weights, *gradients}):
                continue
            if any(other != mask for other in self._masks[own] if self._last(other, own) > weights[-1]):
                continue
            before = [step for step in steps if step < weights[0]]
            after = [step for step in steps if step > weights[-1]]
            passes = [max((one for one in self._lives.passes[tensor] if one < step), default=NONE) for step in after]
            by_step = [next((op for op in gradients if a < op < b), NONE) for a, b in zip(passes, after, strict=True)]
            if len(weights) != 1 or not before or len(after) < STEPS:
                continue
            if all(op >= 0 for op in by_step) or (not gradients and self._is_of(mask, own)):
                by, times = by_step[-1], (index.times(before), index.times(after))
                return MaskedOnce(tensor, weights[0], by, times[0], after[-1], times[1])
        return None

    def _is_of(self, mask: int, storage: int) -> bool:
        """Whether a mask was computed from what is on some memory."""
        index, todo, seen = self._index, [mask], set[int]()
        while todo and len(seen) < _FOLLOWED:
            tensor = todo.pop()
            made = index.made_by(tensor)
            if index.storage_at(tensor, made) == storage:
                return True
            if tensor not in seen and 0 <= made < index.op_count:
                if _DRAWS.search(index.func(made)):
                    return False
                todo += index.uses.of(made)
            seen.add(tensor)
        return False

    def _last(self, mask: int, storage: int) -> int:
        products = self._products[mask]
        return max(op for op, written in products if self._index.storage_at(written, op) == storage)

    def _base(self, tensor: int) -> int:
        """What ``.data`` or ``detach()`` was taken of."""
        index, made = self._index, self._index.recording.tensors.column("op")[tensor]
        is_taken = index.method(made) in ("Tensor.data.__get__", "Tensor.detach") and tensor not in self._lives.owners
        return index.uses.of(made)[0] if is_taken and len(index.uses.of(made)) else tensor

    def _is_used_else(self, mask: int, known: set[int]) -> bool:
        """Whether any other computation takes the mask than a look at it, of its numbers if need be."""
        index, kinds = self._index, self._index.recording.ops.column("kind")
        others = (op for op in index.users.of(mask) if op not in known and kinds[op] == OpKind.CALL)
        return any(
            any(self._is_used_else(one, set()) for one in index.tensors_made(op))
            if index.func(op) in _CASTS
            else index.func(op).rpartition(".")[2] not in _LOOKS
            for op in others
        )
