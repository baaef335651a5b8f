"""``gradscope.compare()``: from what the user named to a comparison."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gradscope.analysis.comparison.comparison_model import Comparison, Variant
from gradscope.analysis.comparison.side_by_side import Labelled, Times, compare_recordings
from gradscope.errors import UsageError
from gradscope.experiments.process_end import variant_end
from gradscope.frames.own_packages import NO_PACKAGES, NamedPackages
from gradscope.recording import Recording
from gradscope.recording.file.store import load
from gradscope.targets.program import Program
from gradscope.targets.resolve import resolve
from gradscope.targets.source import RECORDING_SUFFIX
from gradscope.targets.variants import cell_variants

if TYPE_CHECKING:
    from gradscope.isolated.jobs import Ending

DEFAULT = "stop_gradient"
_SQLITE = b"SQLite format 3\0"


@dataclass(frozen=True)
class Running:
    """How variants are run."""

    timeout: float | None = None
    jobs: int | None = None
    repeat: int = 0
    progress: Callable[[int, int], None] | None = None


def compare(
    *targets: str,
    packages: NamedPackages = NO_PACKAGES,
    only: Collection[str] = (),
    baseline: str | None = None,
    all_rows: bool = False,
    groups: Collection[str] = (),
    timeout: float | None = None,
    jobs: int | None = None,
    repeat: int = 0,
    tolerance: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Run variants, each in a process of its own, and say what autograd did differently in them.

    Args:
        targets: One file or scenario whose ``# %%`` cells are the variants (default: ``stop_gradient``), or two and
            more files, scenarios or recordings. torch is imported only where something is to be run.
        packages: Those of which the user says whether they are their own.
        only: Names of the cells to compare; empty: all.
        baseline: Name of the variant from which differences are marked.
        all_rows: Keep rows in which all variants agree.
        groups: Titles of the groups of facts to keep (``storage``); empty: all.
        timeout: Seconds after which a variant is ended; None: never.
        jobs: Variants that run at the same time; None: as many as there are processors.
        repeat: Timed runs of each variant, without the recorder; 0: no times.
        tolerance: Of two recordings with fingerprints: how far norms may be apart that count as equal.
        progress: Called with the number of processes that are done, and of all.

    Raises:
        GradscopeError: A target cannot be found or has no cells, or an option names no variant.

    Example:
        >>> comparison = gradscope.compare("train.py", "train_frozen.py")  # doctest: +SKIP
        >>> comparison.differs  # doctest: +SKIP
        True
    """
    running = Running(timeout, jobs, repeat, progress)
    if len(targets) > 1:
        if only:
            raise UsageError("--only chooses cells of one file", "name the cells: file.py::cell other.py::cell")
        _check_baseline(baseline, targets)
        title, runs = "", _targets(targets, running, packages)
    else:
        program = resolve(*targets or (DEFAULT,))._replace(packages=packages)
        variants = cell_variants(program, only)
        names = [variant.name for variant in variants]
        _check_baseline(baseline, names)
        watches = [variant.watches for variant in variants]
        title, runs = program.title, _run([variant.program for variant in variants], names, watches, running)
    return compare_recordings(
        runs,
        target=" ".join(targets or (DEFAULT,)),
        title=title,
        baseline=baseline,
        all_rows=all_rows,
        groups=groups,
        lines=len(targets) > 1,
        repeat=repeat,
        tolerance=tolerance,
    )


def _check_baseline(baseline: str | None, names: Sequence[str]) -> None:
    """Before anything is run."""
    if baseline is not None and baseline not in names:
        raise UsageError(f"no variant is called {baseline!r}", "the variants: " + ", ".join(names))


def _targets(targets: Sequence[str], running: Running, packages: NamedPackages) -> list[Labelled]:
    """Recordings as they are, everything else run."""
    named = (target for target in dict.fromkeys(targets) if not _is_recording(target))
    programs = {target: resolve(target)._replace(packages=packages) for target in named}
    ran: list[Labelled] = []
    if programs:
        ran = _run(list(programs.values()), list(programs), [()] * len(programs), running)
    found = dict(zip(programs, ran, strict=True))
    return [found.get(target) or _loaded(target) for target in targets]


def _is_recording(target: str) -> bool:
    if Path(target).suffix == RECORDING_SUFFIX:
        return True
    with suppress(OSError), Path(target).open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE
    return False


def _loaded(target: str) -> Labelled:
    recording = load(target)
    outcome = recording.info.outcome
    complete = outcome.kind != "running"
    return Labelled(_variant(target, target, recording, True, outcome.exit_code or 0, ""), recording, complete)


def _run(
    programs: Sequence[Program], names: Sequence[str], watches: Sequence[tuple[str, ...]], running: Running
) -> list[Labelled]:
    threads = 1 if "torch" in sys.modules else None  # its threads may have been at work already: no fork has them
    from gradscope.experiments.compare.variant_process import VariantJob
    from gradscope.experiments.compare.variant_runs import run_variants

    jobs = [VariantJob(program, watched, threads) for program, watched in zip(programs, watches, strict=True)]
    ran = run_variants(jobs, timeout=running.timeout, at_once=running.jobs, progress=running.progress)
    variants = [
        _variant(name, program.target, one.recording, one.complete, one.ending, one.output)
        for name, program, one in zip(names, programs, ran, strict=True)
    ]
    times = _times(programs, variants, threads, running) if running.repeat else [()] * len(jobs)
    return [
        Labelled(variant, one.recording, one.complete, time)
        for variant, one, time in zip(variants, ran, times, strict=True)
    ]


def _times(
    programs: Sequence[Program], variants: Sequence[Variant], threads: int | None, running: Running
) -> list[Times]:
    """Of the programs that ran to their end; the others have none."""
    from gradscope.experiments.compare.variant_times import time_variants

    good = [at for at, variant in enumerate(variants) if variant.outcome == "ok"]
    found = time_variants(
        [programs[at] for at in good],
        running.repeat,
        threads=threads,
        timeout=running.timeout,
        progress=running.progress,
    )
    times = dict(zip(good, found, strict=True))
    return [times.get(at, ()) for at in range(len(programs))]


def _variant(name: str, target: str, recording: Recording, complete: bool, ending: Ending, output: str) -> Variant:
    end = variant_end(recording.info.outcome, ending, complete)
    line = max(recording.info.outcome.line, 0) if end.kind != "exit" else 0
    return Variant(name, target, end.kind, end.exit_code, end.message, line, output)
