"""Averages of weights whose factors are the wrong way round: nearly all of the new weights, or less than nothing.

An average that less than nothing of the weights is added to (the difference of the two, with the other sign) moves away
from them, by more in each run.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, ops_between
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import RAISED
from gradscope.recording.rows import EventKind

RUNS = 3
"""Runs of the statement, with a step between each two, from which on it is reported."""
SHARE = 0.9
"""The part of the new weights from which on nothing of an average is left."""

_AS_IT_IS = frozenset(("detach", "clone", "data", "to", "float", "double", "cpu", "cuda", "contiguous", "__get__"))
_STEPS = 6
"""Calls back from the sum to the two tensors that are mixed."""
_ROUNDING = 1e-6

_Form = dict[int, float]
"""How often each tensor, by the memory that it is on, counts in a sum."""


class MixedWeights(NamedTuple):
    """What one statement mixes, in all runs that were looked at."""

    ops: tuple[int, ...]
    """The op that adds the two, of each run."""
    average: int
    """The tensor that the last run mixed into."""
    weight: int
    """What an optimizer steps."""
    share: float
    """The part of the weight in the sum, the least of all runs; or the largest, where all are below zero."""


class _Mix(NamedTuple):
    op: int
    average: int
    weight: int
    share: float


def mixed_weights(index: Index, events: Events, lives: GradientLives) -> Iterator[MixedWeights]:
    """Each statement that mixes so."""
    factors = {event.subject: event.detail["by"] for event in events.of(EventKind.FACTOR) if "by" in event.detail}
    if not factors or not lives.steps:
        return
    by_statement: dict[int, list[_Mix]] = {}
    mixer = _Mixer(index, lives, factors)
    for op in range(index.op_count):
        name = index.func(op).rpartition(".")[2].rstrip("_")
        if name in ("add", "sub") or (name == "lerp" and op in factors):
            mix = mixer.mix(op)
            if mix is not None:
                by_statement.setdefault(index.op_statement[op], []).append(mix)
    for mixes in by_statement.values():
        one = [mix for mix in mixes if mix.weight == mixes[-1].weight]
        steps = lives.steps[one[-1].weight]
        stepped = [later for mix, later in pairwise(one) if ops_between(steps, mix.op, later.op)]
        shares = [mix.share for mix in mixes]
        share = max(shares) if max(shares) < 0 else min(shares)
        if (share >= SHARE or max(shares) < 0) and len(stepped) >= RUNS - 1:
            yield MixedWeights(tuple(mix.op for mix in mixes), one[-1].average, one[-1].weight, share)


class _Mixer:
    """Finds what sums are made of.

    Args:
        index: The recording.
        lives: Of its gradients.
        factors: The plain number that an op was given.
    """

    def __init__(self, index: Index, lives: GradientLives, factors: dict[int, float]) -> None:
        self._index = index
        self._lives = lives
        self._factors = factors
        self._leaves = {index.storage_at(leaf, steps[0]): leaf for leaf, steps in lives.steps.items()}
        self._leaves |= {index.storage_at(leaf, steps[-1]): leaf for leaf, steps in lives.steps.items()}
        self._names = dict[int, int]()
        """A tensor on each memory."""

    def mix(self, op: int) -> _Mix | None:
        """The two tensors that a sum is of, where one is a weight and the other is kept in its place."""
        index = self._index
        if index.recording.ops.column("flags")[op] & RAISED:
            return None
        form = self._sum(op, _STEPS)
        if form is None or len(form) != 2 or abs(sum(form.values()) - 1) > _ROUNDING:
            return None
        weights = [storage for storage in form if storage in self._leaves]
        if len(weights) != 1:
            return None
        (average,) = (storage for storage in form if storage != weights[0])
        if not self._is_kept(op, average):
            return None
        return _Mix(op, self._names[average], self._leaves[weights[0]], form[weights[0]])

    def _is_kept(self, op: int, average: int) -> bool:
        """Whether the sum comes to be the average: it is written there, or taken in its place by the next run."""
        index = self._index
        made = index.tensors_made(op)
        if not made:
            return any(index.storage_at(tensor, op) == average for tensor in index.results.of(op))
        for user in index.users.of(made[0]):
            name = index.func(user)
            written = [one for one in index.uses.of(user) if one != made[0]][:1]
            if name in ("Tensor.copy_", "Tensor.data.__set__", "Tensor.set_") and written:
                before = index.storage_at(written[0], user - 1)
                if average in (before, index.storage_at(written[0], user)):
                    return True
        own = index.recording.tensors.column("storage")[made[0]]
        statement = index.op_statement[op]
        return any(
            index.op_statement[user] == statement
            for tensor in (made[0], *self._on(own))
            for user in index.users.of(tensor)
            if user > op + 1
        )

    def _on(self, storage: int) -> list[int]:
        named = self._names.get(storage, NONE)
        return [named] if named >= 0 else []

    def _sum(self, op: int, left: int) -> _Form | None:
        """What the result of a call is made of."""
        index, factor = self._index, self._factors.get(op)
        taken, name = list(index.uses.of(op)), index.func(op).removesuffix(".__get__").rpartition(".")[2]
        plain = name.rstrip("_") if not name.startswith("__") else name
        if len(taken) == 2 and plain in ("add", "sub", "lerp"):
            first, second = (self._form(one, op, left - 1) for one in taken)
            if first is None or second is None:
                return None
            if plain == "lerp":
                return None if factor is None else _joined(first, 1 - factor, second, factor)
            by = 1.0 if factor is None else factor
            return _joined(first, 1.0, second, -by if plain == "sub" else by)
        if len(taken) == 1 and plain in ("mul", "div") and factor:
            of = self._form(taken[0], op, left - 1)
            by = factor if plain == "mul" else 1 / factor
            return None if of is None else {storage: by * part for storage, part in of.items()}
        if len(taken) == 1 and plain == "neg":
            of = self._form(taken[0], op, left - 1)
            return None if of is None else {storage: -part for storage, part in of.items()}
        if taken and plain in _AS_IT_IS:
            return self._form(taken[0], op, left - 1)
        return None

    def _form(self, tensor: int, op: int, left: int) -> _Form | None:
        """What a tensor holds when a call takes it."""
        index = self._index
        made, storage = index.made_by(tensor), index.storage_at(tensor, op - 1)
        written = self._written_just_before(storage, op)
        if left > 0 and written >= 0:
            return self._sum(written, left)
        name = index.func(made).rpartition(".")[2] if 0 <= made < op else ""
        statement = index.op_statement
        if left > 0 and name and (statement[made] == statement[op] or op - made <= _STEPS):
            known = self._sum(made, left)
            if known is not None:
                return known
        self._names[storage] = tensor
        return {storage: 1.0}

    def _written_just_before(self, storage: int, op: int) -> int:
        """The call among the few before that multiplied what is on a memory in place, by a plain number."""
        index = self._index
        for before in range(op - 1, max(op - _STEPS, -1), -1):
            is_scaled = index.func(before) in ("Tensor.mul_", "Tensor.div_") and before in self._factors
            if is_scaled and any(index.storage_at(one, before) == storage for one in index.results.of(before)):
                return before
        return NONE


def _joined(first: _Form, by: float, second: _Form, other: float) -> _Form:
    found = {storage: by * part for storage, part in first.items()}
    for storage, part in second.items():
        found[storage] = found.get(storage, 0.0) + other * part
    return found
