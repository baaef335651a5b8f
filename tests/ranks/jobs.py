"""Jobs of several processes over gloo, started as a launcher starts them: one ``gradscope run`` for each rank."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.cli.command import GRADSCOPE, gradscope
from tests.processes import started

HEAD = """\
import os, sys, time, torch, torch.distributed as dist
from torch import nn
rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
dist.init_process_group("gloo", init_method="file://" + os.path.abspath("store"), rank=rank, world_size=world_size)
"""
"""The first lines of a program: 1 to 4."""


def job(
    folder: Path, program: str, *options: str, ranks: int = 2, timeouts: Sequence[float] = ()
) -> list[subprocess.CompletedProcess[str]]:
    """Run a program in so many processes, each with its own limit of time; each leaves ``run.rank0.gradscope`` …"""
    (folder / "job.py").write_text(HEAD + textwrap.dedent(program))
    (folder / "store").unlink(missing_ok=True)
    kept = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "NO_COLOR", "COLUMNS")}
    command = [GRADSCOPE, "run", "--width", "120", "-o", "run.gradscope", *options]
    limits = [["--timeout", str(seconds)] for seconds in timeouts] or [[]] * ranks
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                started(
                    [*command, *limits[rank], "job.py"],
                    cwd=folder,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=kept | {"OMP_NUM_THREADS": "1", "RANK": str(rank), "WORLD_SIZE": str(ranks)},
                )
            )
            for rank in range(ranks)
        ]
        outputs = [process.communicate() for process in processes]
    return [
        subprocess.CompletedProcess(command, process.returncode, *output)
        for process, output in zip(processes, outputs, strict=True)
    ]


def merged(folder: Path) -> dict[str, Any]:
    """What ``gradscope report`` says of all of them, as JSON."""
    found: dict[str, Any] = json.loads(gradscope("report", "-f", "json", str(folder), cwd=folder).stdout)
    return found


def screen(folder: Path) -> str:
    """The same as a screen."""
    return gradscope("report", "--width", "160", str(folder), cwd=folder).stdout
