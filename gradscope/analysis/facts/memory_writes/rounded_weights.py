"""Parameters that the program overwrites after each step with their own values, rounded to a few levels.

A quantised net keeps its weights as they are, and computes with a rounded copy. Where the copy takes the weights' own
place, what a step adds is rounded away unless it reaches the next level. No loss is it where the weights come back
before the step, where the remainder is kept and added again, or where noise decides which way is rounded.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.memory_writes.changed_leaves import changed_leaves
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.index import Index
from gradscope.recording.flags import EXTERNAL, GROUP_OP, PARAMETER

STEPS = 4
"""Steps, between which it was done each time, from which on it counts."""
_ROUNDS = re.compile(
    r"(Tensor|torch)\.(round|floor|ceil|trunc|fix|sign|fake_quantize_per_(tensor|channel)_affine"
    r"|_fake_quantize_\w+)_?"
)
_COMPARES = re.compile(r"(Tensor|torch)\.(__)?(gt|ge|lt|le|greater|less|greater_equal|less_equal)(__)?")
"""What tells two levels apart."""
_DRAWS = re.compile(r".*(rand|bernoulli|normal|uniform|dropout|poisson|multinomial).*")
"""What draws, so that a step is not lost on the average."""
_DEPTH = 40


class Rounded(NamedTuple):
    """One parameter."""

    tensor: int
    rounds: tuple[int, ...]
    """The calls that rounded its values, one after each step but the last."""
    writes: tuple[int, ...]
    """Those that put them in its place."""


class RoundedWeights:
    """Those of one recording."""

    def __init__(self, index: Index, lives: GradientLives) -> None:
        self._index = index
        self._lives = lives

    def found(self) -> list[Rounded]:
        """Every parameter with rounded values in its place before each step but the first."""
        if not self._index.calls_of(lambda func: _ROUNDS.fullmatch(func) or _COMPARES.fullmatch(func)):
            return []
        found = []
        flags = self._index.recording.tensors.column("flags")
        for tensor, steps in self._lives.steps.items():
            if not flags[tensor] & PARAMETER:
                continue  # (an image that is optimised may have to be one of whole numbers)
            last = steps[-STEPS - 1 :]
            pairs = [self._between(tensor, step, following) for step, following in pairwise(last)]
            known = [pair for pair in pairs if pair is not None]
            if len(steps) > STEPS and len(known) == len(pairs):
                found.append(Rounded(tensor, tuple(one for one, _ in known), tuple(at for _, at in known)))
        return found

    def _between(self, tensor: int, step: int, following: int) -> tuple[int, int] | None:
        """The call that rounded, and the write, if that is the last one before the next step, and of its own values."""
        changed = self._changed.get(tensor, [])
        since = changed[bisect_right(changed, (step + 1, -2)) : bisect_right(changed, (following, -2))]
        if not since:
            return None
        op, value = since[-1]
        if value < 0:
            rounded = self._rounded_in_place(tensor, [at for at, _ in since]) if since[0][1] < 0 else -1
        else:
            rounded = self._rounded(value, self._index.storage_at(tensor, op - 1), tensor, op)
        return (rounded, op) if rounded >= 0 else None

    def _rounded_in_place(self, tensor: int, ops: list[int]) -> int:
        """The call that rounded, where calls wrote into a parameter that took nothing else of its size; else -1."""
        index, size = self._index, self._size(tensor)
        for op in ops:
            if any(self._size(use) >= size for use in list(index.uses.of(op))[1:]):
                return -1
        return next((op for op in ops if _ROUNDS.fullmatch(index.func(op))), -1)

    @cached_property
    def _changed(self) -> dict[int, list[tuple[int, int]]]:
        return changed_leaves(self._index, self._lives)

    def _rounded(self, value: int, own: int, leaf: int, before: int) -> int:
        """The call that rounded, where a value was computed of what is on a leaf's memory alone, and rounded; else -1.

        What is smaller than the leaf may be a scale, and comes from wherever it does.
        """
        index, tensors = self._index, self._index.recording.tensors
        kinds, size = index.recording.ops.column("kind"), self._size(leaf)
        rounds, reaches, stack, seen = list[int](), False, [(value, False)], set[tuple[int, bool]]()
        while stack:
            one, is_rounded = stack.pop()
            if one < 0 or len(seen) > _DEPTH:
                return -1
            if (one, is_rounded) in seen:
                continue
            seen.add((one, is_rounded))
            if self._size(one) < size:
                continue
            if index.storage_at(one, before - 1) == own:
                if not is_rounded:
                    return -1
                reaches = True
                continue
            made = tensors.column("op")[one]
            if tensors.column("flags")[one] & EXTERNAL or made >= before or kinds[made] == GROUP_OP:
                return -1
            if _DRAWS.fullmatch(index.func(made)):
                return -1
            taken = index.uses.of(made)
            if not len(taken):
                return -1
            if _ROUNDS.fullmatch(index.func(made)) or self._rounds_in_place(one, made, before):
                rounds.append(made)
                is_rounded = True
            elif not index.is_floating(one):
                rounds += [made] * (_COMPARES.fullmatch(index.func(made)) is not None)
                is_rounded = True
            stack += [(use, is_rounded) for use in taken]
        return max(rounds) if rounds and reaches else -1

    def _rounds_in_place(self, tensor: int, made: int, before: int) -> bool:
        users = self._index.users.of(tensor)
        return any(
            made < op < before and self._index.func(op).endswith("_") and _ROUNDS.fullmatch(self._index.func(op))
            for op in users
        )

    def _size(self, tensor: int) -> int:
        """Number of elements, by the shape that it was first seen with."""
        layout = self._index.recording.layouts[self._index.recording.tensors.column("layout")[tensor]]
        size = 1
        for number in re.findall(r"\d+", self._index.recording.text(layout.shape)):
            size *= int(number)
        return size
