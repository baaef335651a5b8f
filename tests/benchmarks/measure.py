"""Measuring on a shared machine: interleaved rounds, the best and the median of several, CPU time beside wall time.

Other processes make single timings worthless. All contestants take turns within a round, so that what disturbs one
disturbs its neighbours; the best of the rounds is the least disturbed. CPU time of the process leaves out waiting for
other processes, but not what they take from shared caches.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from statistics import median


@dataclass
class Timings:
    """Seconds a call of the work took, one entry a round."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def ratios(self, bare: Timings) -> Ratios:
        """How much longer it took than bare work."""
        return Ratios(
            best_cpu=min(self.cpu) / min(bare.cpu),
            median_cpu=median(self.cpu) / median(bare.cpu),
            best_wall=min(self.wall) / min(bare.wall),
            median_wall=median(self.wall) / median(bare.wall),
        )


@dataclass(frozen=True)
class Ratios:
    """Time divided by the time of the bare work: 1.0 is free."""

    best_cpu: float
    median_cpu: float
    best_wall: float
    median_wall: float


def interleave(
    work: Callable[[], object],
    contestants: Mapping[str, Callable[[], AbstractContextManager[object]]],
    rounds: int,
    calls: int,
) -> dict[str, Timings]:
    """Time the same work under each contestant in turn, round by round.

    Args:
        work: What is timed. It is called once in each context before the time is taken: what is done once a run (a
            recorder reads source files, a profiler starts its threads) is no part of the cost of a step.
        contestants: By name, what makes the context to run the work in. Its exit is timed, as a profiler puts work off
            until then; its entry is not.
        rounds: Timings to take of each.
        calls: Calls of the work in one timing.
    """
    timings = {name: Timings() for name in contestants}
    for _ in range(rounds):
        for name, make in contestants.items():
            context = make()
            gc.collect()
            with context:
                work()
                wall, cpu = time.perf_counter(), time.process_time()
                for _ in range(calls):
                    work()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            timings[name].wall.append(wall / calls)
            timings[name].cpu.append(cpu / calls)
    return timings
