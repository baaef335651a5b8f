"""A million ops: the recorder's memory, and the time to analyse, show, save and load them."""

from __future__ import annotations

import gc
import io
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from gradscope.analysis.report_builder import build
from gradscope.collector import resting
from gradscope.recorder.session import Recorder
from gradscope.recording.file.store import load, save
from gradscope.report.run.run_screen import render
from tests.benchmarks.workloads import CHAIN, multiplications


@dataclass
class Scale:
    """What a long run costs."""

    ops: int
    recording_bytes: int
    """Bytes of the recording's columns and texts."""
    resident_growth: int
    """Bytes by which the process grew while it recorded, after the same work without the recorder."""
    file_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    """CPU seconds of each stage."""


def measure_scale(ops: int) -> Scale:
    """Record multiplications forward and backward until there are so many ops, then use the recording.

    All of them are kept, as where all differ. It is used with the garbage collector at rest, as commands use it.
    """
    step = multiplications()
    for _ in range(20):
        step()
    recorder = Recorder(is_user=lambda filename: filename.endswith("workloads.py"), every_op=True)
    seconds: dict[str, float] = {}
    before = _resident()
    with _timed(seconds, "record"), recorder:
        for _ in range(ops // CHAIN):
            step()
    recording = recorder.recording
    scale = Scale(len(recording.ops), recording.nbytes, _resident() - before, seconds=seconds)
    with resting(), TemporaryDirectory() as folder:
        with _timed(seconds, "analyse"):
            report = build(recording)
        with _timed(seconds, "show"):
            render(report, Console(file=io.StringIO(), width=100))
        file = Path(folder) / "million.gradscope"
        with _timed(seconds, "save"):
            save(recording, file)
        scale.file_bytes = file.stat().st_size
        with _timed(seconds, "load"):
            load(file)
    return scale


def _resident() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    clock: Callable[[], float] = time.process_time
    started = clock()
    yield
    seconds[stage] = clock() - started
