"""Gradients that passes of an earlier part of a training left in parameters, and that one step applied all at once.

The passes were for others, which steps followed each time and whose gradients were cleared each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, last_before
from gradscope.analysis.facts.passes.passes_by_step import PassesByStep
from gradscope.analysis.facts.writes import all_writes, replaced_memory
from gradscope.analysis.index import Index
from gradscope.recording import NONE

ROUNDS = 3
"""Steps of others, each with what clears their gradients, from which on it is reported."""
_USUAL = 2
"""Steps of a parameter with gradients of fewer passes: a program may add up more and more of them, or fewer."""
_RARE = 3
"""So many other steps there are to each one with such a sum, where that alone tells them apart."""


class SumOfBefore(NamedTuple):
    """One step that applied such a sum."""

    tensors: tuple[int, ...]
    step: int
    passes: tuple[int, ...]
    """The passes whose gradients it applied."""
    usual: int
    """How many passes most of the other steps applied."""
    cleared: int
    """The last op that cleared the gradients of the others, and not these."""
    given: Happened | None
    """What gave them to the optimizer, where that was after the first of the passes."""


class _Sum(NamedTuple):
    step: int
    passes: tuple[int, ...]
    usual: int
    is_rare: bool


class SumsOfBefore:
    """Finds them in one recording."""

    def __init__(self, index: Index, events: Events, lives: GradientLives, by_step: PassesByStep) -> None:
        self._index = index
        self._events = events
        self._lives = lives
        self._by_step = by_step
        self._rounds: dict[int, int] = {}

    def found(self) -> Iterator[SumOfBefore]:
        """The last one of each parameter; those that the same line left and the same line gave to a step are one."""
        alike: dict[tuple[int, int], list[SumOfBefore]] = {}
        for tensors in self._with_the_same_passes():
            last = self._last_sum(tensors[0])
            found = [self._of(tensor, last) for tensor in tensors] if last is not None else []
            for one in (one for one in found if one is not None):
                given = one.given.span if one.given is not None else NONE
                alike.setdefault((self._index.op_statement[one.cleared], given), []).append(one)
        for several in alike.values():
            longest = max(several, key=lambda one: (len(one.passes), one.step))
            yield longest._replace(tensors=tuple(tensor for one in several for tensor in one.tensors))

    def _with_the_same_passes(self) -> list[list[int]]:
        """The parameters that had the same passes and steps, and were cleared together."""
        lives, found = self._lives, dict[tuple[tuple[int, ...], ...], list[int]]()
        for tensor, steps in lives.steps.items():
            key = (tuple(steps), tuple(lives.passes[tensor]), tuple(lives.cleared.get(tensor, ())))
            found.setdefault(key, []).append(tensor)
        return list(found.values())

    def _last_sum(self, tensor: int) -> _Sum | None:
        """The last step of a parameter that applied many more passes than most of the others did."""
        steps = self._lives.steps[tensor]
        applied = [tuple(self._lives.applied(tensor, step)) for step in steps]
        counts = list(map(self._count, steps, applied))
        usual, times = Counter(counts).most_common(1)[0]
        sums = [at for at, count in enumerate(counts) if count >= usual + ROUNDS]
        if not sums or not usual or times < _USUAL:
            return None
        return _Sum(steps[sums[-1]], applied[sums[-1]], usual, len(sums) * _RARE <= times)

    def _of(self, tensor: int, last: _Sum) -> SumOfBefore | None:
        """What there is to say of such a step of a parameter.

        One that no optimizer held at first is seen to begin late. Of others that is seen only where it is rare: they
        may be stepped in every so many rounds for a while, and in each one then.
        """
        events = self._events.in_optimizers.get(tensor, ())
        given = [event for event in events if last.passes[0] < event.op <= last.step]
        cleared = self._cleared_of_others(last.passes) if given or last.is_rare else NONE
        if cleared < 0 or self._is_written(tensor, last.passes[0], last.step):
            return None
        return SumOfBefore((tensor,), last.step, last.passes, last.usual, cleared, given[-1] if given else None)

    def _count(self, step: int, passes: tuple[int, ...]) -> int:
        """How many passes a step applied; where it stands for others that were alike, these have as many."""
        return self._index.times(passes) // self._index.weights[step]

    def _is_written(self, tensor: int, since: int, step: int) -> bool:
        """Whether a parameter was written between: by hand, from its gradient, or from a state."""
        block = self._index.storage_at(tensor, step)
        return any(since < op < step for op in self._written.get(block, ()))

    def _cleared_of_others(self, passes: tuple[int, ...]) -> int:
        """What last cleared the gradients that one of the passes gave others; NONE where that is not done each time."""
        rounds = [self._round(one) for one in passes[:-1]]
        known = [(one, gone) for one, gone in zip(passes, rounds, strict=False) if gone >= 0]
        return known[-1][1] if self._index.times(one for one, _ in known) >= ROUNDS else NONE

    def _round(self, one: int) -> int:
        """What cleared the gradients that a pass gave others, after a step applied them; NONE where there is none."""
        if one not in self._rounds:
            self._rounds[one] = self._found_round(one)
        return self._rounds[one]

    def _found_round(self, one: int) -> int:
        lives, step = self._lives, self._by_step.step_after(one)
        for other in self._by_step.updated(step) if step >= 0 else ():
            gone = first_after(lives.cleared.get(other, []), one)
            next_pass = first_after(lives.passes[other], one)
            if last_before(lives.passes[other], one + 1) == one and gone > step:
                return gone if next_pass < 0 or gone < next_pass else NONE
        return NONE

    @cached_property
    def _written(self) -> dict[int, list[int]]:
        """By memory block the ops that wrote it; a view has the version of its base from birth."""
        found: dict[int, list[int]] = {}
        made_at = self._index.recording.tensors.column("op")
        written = (one for one in all_writes(self._index) if one[0] != made_at[one[1]])
        for op, tensor, *_ in chain(written, replaced_memory(self._index)):
            found.setdefault(self._index.storage_at(tensor, op), []).append(op)
        return found
