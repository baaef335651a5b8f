"""Measuring on a shared machine: every timing stands between two of plain work, and there are several of each.

Other processes make single timings worthless, and one second twice as slow as the next. So each timing is divided by
those of plain work right before and after it, and the median of these ratios is taken. The best time by the best of
plain work is given too: it is right where both met a quiet moment. CPU time of the process leaves out waiting for other
processes, but not what they take from shared caches and cores.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import NamedTuple


class Seconds(NamedTuple):
    """What some work took."""

    wall: float
    cpu: float


@dataclass
class Timings:
    """What some work took, one entry a round, and what plain work took beside it."""

    own: list[Seconds] = field(default_factory=list)
    plain: list[Seconds] = field(default_factory=list)

    def ratios(self) -> Ratios:
        """How much longer it took than plain work."""
        return Ratios(
            best_cpu=best(self.own).cpu / best(self.plain).cpu,
            median_cpu=median(own.cpu / plain.cpu for own, plain in zip(self.own, self.plain, strict=True)),
            best_wall=best(self.own).wall / best(self.plain).wall,
            median_wall=median(own.wall / plain.wall for own, plain in zip(self.own, self.plain, strict=True)),
        )


@dataclass(frozen=True)
class Ratios:
    """Time divided by the time of plain work: 1.0 is free."""

    best_cpu: float
    median_cpu: float
    best_wall: float
    median_wall: float


def best(timings: list[Seconds]) -> Seconds:
    """The shortest wall time and the shortest CPU time."""
    return Seconds(min(each.wall for each in timings), min(each.cpu for each in timings))


def best_plain(timings: Mapping[str, Timings]) -> Seconds:
    """The shortest times of the plain work that stood beside several contestants."""
    return best([plain for each in timings.values() for plain in each.plain])


def take_turns(
    plain: Callable[[], Seconds], contestants: Mapping[str, Callable[[], Seconds]], rounds: int
) -> dict[str, Timings]:
    """Time every contestant between two timings of plain work, round by round.

    Args:
        plain: Does the plain work and times it.
        contestants: By name, what does the same in another way, and times it.
        rounds: Timings to take of each.
    """
    timings = {name: Timings() for name in contestants}
    for _ in range(rounds):
        before = plain()
        for name, contestant in contestants.items():
            own, after = contestant(), plain()
            timings[name].own.append(own)
            timings[name].plain.append(Seconds((before.wall + after.wall) / 2, (before.cpu + after.cpu) / 2))
            before = after
    return timings


def interleave(
    work: Callable[[], object],
    contexts: Mapping[str, Callable[[], AbstractContextManager[object]]],
    rounds: int,
    calls: int,
) -> dict[str, Timings]:
    """Time the same work in each context, against the same work in none.

    Args:
        work: What is timed. It is called once in each context before the time is taken: what is done once a run (a
            recorder reads source files, a profiler starts its threads) is no part of the cost of a step.
        contexts: By name, what makes the context to run the work in. Its exit is timed, as a profiler puts work off
            until then; its entry is not.
        rounds: Timings to take of each.
        calls: Calls of the work in one timing.

    Returns:
        Timings of one call of the work, by name.
    """
    timers = {name: partial(_time_in, context, work, calls) for name, context in contexts.items()}
    return take_turns(partial(_time_in, nullcontext, work, calls), timers, rounds)


def _time_in(
    make_context: Callable[[], AbstractContextManager[object]], work: Callable[[], object], calls: int
) -> Seconds:
    context = make_context()
    gc.collect()
    with context:
        work()
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls):
            work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Seconds(wall / calls, cpu / calls)
