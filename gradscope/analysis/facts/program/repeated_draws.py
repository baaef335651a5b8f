"""Random numbers of a training that come again, since something beside it seeds the generator of the whole program.

A preview or an evaluation that is to be the same each time calls ``torch.manual_seed``: what the training draws after
that begins at the same state as well. That both drew the same numbers is measured: the generator was seeded alike, and
was found in the same state by the next such call.

Where the seed is there for what the training draws, that may be meant: one noise for all steps. It goes too far where
each step gets the same mask of dropout by it, or the same numbers for what is drawn when the function is left that
seeds and draws.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.writes import all_steps, all_writes, replaced_memory
from gradscope.analysis.index import Index
from gradscope.recording.flags import GRAD
from gradscope.recording.rows import EventKind

TIMES = 3
"""Calls of ``manual_seed`` from which on it is reported: two stretches of the training between them are alike."""
STEPS = 4
"""Steps in a row with the same numbers from which on it is reported where the seed is there for the training itself."""
_DROPOUTS = re.compile(r"F\.(feature_)?(alpha_)?dropout[123]?d?")
_DRAWS = re.compile(
    r"(torch|Tensor)\.(randn?|randint|randperm|rand_like|randn_like|randint_like|normal|bernoulli|multinomial|poisson"
    r"|(normal|uniform|random|bernoulli|exponential|cauchy|geometric|log_normal)_)"
    r"|F\.((feature_)?(alpha_)?dropout[123]?d?|gumbel_softmax)"
)
_FOLLOWED = 256
"""Tensors that are followed from what is drawn to a training pass."""


class RepeatedDraws(NamedTuple):
    """What one call of ``manual_seed`` (a place) makes come again."""

    seed: int
    calls: tuple[Happened, ...]
    through: tuple[int, ...]
    """The spans of the user's functions around the call, the innermost first."""
    draws: tuple[int, ...]
    """Draws (ops) of the training that gave the numbers of an earlier stretch, or gave those that came again."""
    stretches: int
    step: int
    """The last step of these."""


class _Stretch(NamedTuple):
    """From one call to the next."""

    first: int
    end: int
    draws: tuple[int, ...]
    """Those that a training pass came from."""
    steps: tuple[int, ...]
    is_step: bool
    """The seed is there for one step of the training; the draws are those that it goes too far for."""


def repeated_draws(index: Index, events: Events, passes: Passes, lives: GradientLives) -> Iterator[RepeatedDraws]:
    """One for each place that seeds for something else than the training that goes on after it."""
    seeded = events.of(EventKind.SEEDED)
    if len(seeded) < TIMES:
        return
    by_place: dict[tuple[tuple[int, ...], int], list[int]] = {}
    for at, event in enumerate(seeded):
        seed = event.detail.get("seed")
        if event.span >= 0 and isinstance(seed, int):
            by_place.setdefault((_through(event, events.spans), seed), []).append(at)
    stretches = _Stretches(index, events, passes, lives)
    for (through, seed), positions in by_place.items():
        if len(positions) < TIMES:
            continue
        found = stretches.alike(seeded, positions, through)
        least = STEPS if all(one.is_step for one in found) else TIMES - 1
        if len(found) >= least and not stretches.begins_anew(found):
            draws = tuple(op for one in found for op in one.draws)
            calls = tuple(seeded[at] for at in positions)
            times = index.times(one.draws[0] for one in found)
            yield RepeatedDraws(seed, calls, through, draws, times, found[-1].steps[-1])


def _through(event: Happened, spans: int) -> tuple[int, ...]:
    way = event.detail.get("through")
    is_way = isinstance(way, list) and all(isinstance(one, int) and 0 <= one < spans for one in way)
    return tuple(way) if isinstance(way, list) and is_way else (event.span,)


class _Stretches:
    def __init__(self, index: Index, events: Events, passes: Passes, lives: GradientLives) -> None:
        self._index = index
        self._events = events
        self._passes = passes
        self._lives = lives

    def alike(self, seeded: list[Happened], positions: list[int], through: tuple[int, ...]) -> list[_Stretch]:
        """The stretches in which the generator went the way of another one, and the training drew."""
        found: list[_Stretch] = []
        own = set(positions)
        alike = {
            at
            for end in positions
            if seeded[end].detail.get("again") is True and end - 1 in own and end - 2 in own
            for at in (end - 2, end - 1)
        }
        for at in sorted(alike):
            stretch = self._stretch(seeded[at].op, seeded[at + 1].op, through)
            if stretch is None:
                return []
            if stretch.draws and stretch.steps:
                found.append(stretch)
        return found

    def _stretch(self, first: int, end: int, through: tuple[int, ...]) -> _Stretch | None:
        """None where the seed is there for what the training draws: that comes first, and nothing is evaluated."""
        draws = self._draws[bisect_left(self._draws, first) : bisect_left(self._draws, end)]
        trained = [op for op in draws if self._is_trained(op, end)]
        steps = self._steps[bisect_left(self._steps, first) : bisect_left(self._steps, end)]
        is_own = bool(trained) and trained[0] == draws[0] and not self._is_evaluated(first, trained[0], through)
        if is_own:
            trained = self._beside_what_is_meant(trained, through)
            if not trained or not self._is_one_step(first, end):
                return None
        return _Stretch(first, end, tuple(trained), tuple(steps), is_own)

    def _beside_what_is_meant(self, draws: list[int], through: tuple[int, ...]) -> list[int]:
        """Draws that are made by dropout, or in a caller of a function that seeds and draws itself."""
        index, spans = self._index, self._index.recording.ops.column("span")
        inner, *outer = (self._function(span) for span in through)
        of = {op: self._function(spans[op]) for op in draws if spans[op] >= 0}
        seeds_for_itself = inner in of.values()
        return [
            op
            for op in draws
            if _DROPOUTS.fullmatch(index.func(op)) or (seeds_for_itself and of.get(op) != inner and of.get(op) in outer)
        ]

    def _is_one_step(self, first: int, end: int) -> bool:
        """Whether nothing is stepped twice between two ops."""
        return all(bisect_left(at, end) - bisect_left(at, first) <= 1 for at in self._lives.steps.values())

    @cached_property
    def _steps(self) -> list[int]:
        return all_steps(self._index)

    @cached_property
    def _draws(self) -> list[int]:
        """Draws from the generator of the whole program: none that is given another one, or is of another device."""
        index, layouts = self._index, self._index.recording.layouts
        of, devices = index.recording.tensors.column("layout"), layouts.column("device")
        text, found = index.recording.text, list[int]()
        for op in index.calls_of(_DRAWS.fullmatch):
            made = self._drawn(op)
            if made and text(devices[of[made[0]]]) == "cpu" and "generator" not in index.span_source(op):
                found.append(op)
        return found

    def _drawn(self, op: int) -> list[int]:
        """What a draw gave; nothing for a dropout that gave back what it took, as one of rate zero does."""
        is_inplace = self._index.func(op).endswith("_")
        return [*self._index.tensors_made(op), *(self._index.results.of(op) if is_inplace else ())]

    def _is_trained(self, draw: int, end: int) -> bool:
        """Whether a backward pass came through what was made of drawn numbers before an op."""
        index, nodes = self._index, self._index.recording.tensors.column("node")
        todo, seen = self._drawn(draw), set[int]()
        while todo and len(seen) < _FOLLOWED:
            tensor = todo.pop()
            if tensor in seen:
                continue
            seen.add(tensor)
            if nodes[tensor] >= 0 and draw < self._passes.first_walked_at[nodes[tensor]] < end:
                return True
            todo += [made for op in index.users.of(tensor) if draw < op < end for made in index.tensors_made(op)]
        return False

    def _is_evaluated(self, first: int, draw: int, through: tuple[int, ...]) -> bool:
        """Whether a function that seeds, or calls what does, goes on with gradients off before the training draws."""
        ops = self._index.recording.ops
        spans, flags = ops.column("span"), ops.column("flags")
        functions = {self._function(span) for span in through}
        return any(
            spans[op] >= 0 and not flags[op] & GRAD and self._function(spans[op]) in functions
            for op in range(first, draw)
        )

    def _function(self, span: int) -> tuple[int, int]:
        row = self._index.recording.spans[span]
        return row.file, row.function

    def begins_anew(self, stretches: list[_Stretch]) -> bool:
        """Whether what is trained is another model in each stretch, or is set back: an experiment of its own each."""
        index, lives = self._index, self._lives
        steps = [set(one.steps) for one in stretches]
        trained = [{tensor for tensor, at in lives.steps.items() if not one.isdisjoint(at)} for one in steps]
        common = set[int].intersection(*trained)
        if not common:
            return True
        first, end = stretches[0].first, stretches[-1].end
        if any(first <= event.op < end for tensor in common for event in self._events.in_optimizers.get(tensor, ())):
            return True
        own = {index.storage_at(tensor, first) for tensor in common}
        own_steps = set(self._steps)
        written = ((op, index.storage_at(tensor, op)) for op, tensor, *_ in all_writes(index))
        put = ((op, storage) for op, _, storage in replaced_memory(index))
        return any(first <= op < end and on in own and op not in own_steps for op, on in (*written, *put))
