"""How long variants take: in runs without the recorder, one after the other in turns, each in a fresh process."""

from __future__ import annotations

import ast
import gc
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from types import CodeType
from typing import Any

import torch

from gradscope.analysis.comparison.side_by_side import Times
from gradscope.experiments.compare.variant_process import seed
from gradscope.frames.replacements import Replacement
from gradscope.hosting.main_module import new_main, register_source
from gradscope.hosting.process import ProgramProcess
from gradscope.isolated.jobs import Ending, run_isolated
from gradscope.targets.program import Program

_TIMES = "times.json"


@dataclass(frozen=True)
class TimedJob:
    """One timed run, after one that warms up what torch prepares at first use."""

    program: Program
    threads: int | None

    def perform(self, folder: Path) -> int:
        """Run it twice, and leave the times of the second run; how it fails is the recorded run's to tell."""
        process = ProgramProcess(self.program, (), hidden=(), exiting=_ignore, signalled=_ignore)
        register_source(self.program)
        process.enter()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        try:
            for _ in range(2):
                seed()
                times = _timed(self.program)
        except BaseException:
            return 1
        (folder / _TIMES).write_text(json.dumps(times))
        return 0


def _timed(program: Program) -> dict[str, int]:
    setup, cell = split_setup(program)
    names = new_main(program).__dict__
    exec(setup, names)
    gc.collect()
    with _backward_time() as backward:
        started = perf_counter_ns()
        exec(cell, names)
        _wait()
        total = perf_counter_ns() - started
    return {"forward": total - backward[0], "backward": backward[0]}


def _ignore(_: int) -> None:
    """The process ends without a word."""


def split_setup(program: Program) -> tuple[CodeType, CodeType]:
    """The set-up, which is not timed, and the cell; of a file that is no cell the whole is timed."""
    tree = ast.parse(program.source, program.filename)
    first = program.cells[0].line if program.cell else 0
    setup = ast.Module([statement for statement in tree.body if statement.lineno < first], [])
    cell = ast.Module([statement for statement in tree.body if statement.lineno >= first], [])
    before = compile(setup, program.filename, "exec", dont_inherit=True)
    flags = before.co_flags & _FUTURES
    return before, compile(cell, program.filename, "exec", flags, dont_inherit=True)


def _futures() -> int:
    import __future__

    return sum(getattr(__future__, name).compiler_flag for name in ("annotations", "barry_as_FLUFL"))


_FUTURES = _futures()
"""Flags by which ``from __future__ import …`` of the set-up holds for the cell as well."""


def _wait() -> None:
    """Let work on a GPU come to its end before a clock is read."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()


@contextmanager
def _backward_time() -> Iterator[list[int]]:
    """Nanoseconds spent in backward passes, in a list of one."""
    spent, depth = [0], [0]

    def timed(run: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if depth[0]:
                return run(*args, **kwargs)
            depth[0] = 1
            _wait()
            started = perf_counter_ns()
            try:
                return run(*args, **kwargs)
            finally:
                _wait()
                spent[0] += perf_counter_ns() - started
                depth[0] = 0

        return wrapper

    with Replacement(torch.autograd, "backward", timed), Replacement(torch.autograd, "grad", timed):
        yield spent


def time_variants(
    programs: Sequence[Program],
    repeat: int,
    *,
    threads: int | None = None,
    timeout: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Times]:
    """Time each program so many times, in turns; a program that does not end well has no times.

    Args:
        programs: What to run.
        repeat: Timed runs of each.
        threads: Threads of torch's own; None: as torch decides.
        timeout: Seconds after which a run is ended.
        progress: Called with the number of runs that are done, and of all.
    """
    jobs = [TimedJob(program, threads) for _ in range(repeat) for program in programs]
    found = run_isolated(jobs, _collect, timeout=timeout, at_once=1, progress=progress)
    return [_summarize(found[at :: len(programs)]) for at in range(len(programs))]


def _collect(folder: Path, ending: Ending) -> dict[str, int] | None:
    path = folder / _TIMES
    times: dict[str, int] | None = json.loads(path.read_text()) if path.exists() and ending == 0 else None
    return times


def _summarize(runs: Sequence[dict[str, int] | None]) -> Times:
    good = [run for run in runs if run is not None]
    if not good:
        return ()
    return tuple((what, *_middle([run[what] for run in good])) for what in good[0])


def _middle(values: Sequence[int]) -> tuple[int, int]:
    if len(values) < 2:
        return values[0], 0
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return round(median), round(third - first)
