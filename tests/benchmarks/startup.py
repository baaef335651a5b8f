"""Start-up: the commands against plain Python, as processes of their own, taking turns."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.measure import Seconds, Timings, take_turns

SNIPPET = """\
import torch

a = torch.tensor([1.0, 2.0], requires_grad=True)
b = a.detach()
(a * a).sum().backward()
print(a.grad, b.requires_grad)
"""

COMMANDS = {
    "--help": "import typer, rich.table",
    "list": "import typer, rich.table",
    "report": "import typer, rich.table",
    "run": "snippet",
    "run -q": "snippet",
    "compare": "snippet",
}
"""By command, the plain Python that it is compared with."""

BUDGETS = {"--help": 1.5, "list": 1.5, "report": 1.5, "run": 1.10, "compare": 1.5}


def measure_startup(rounds: int) -> dict[str, Timings]:
    """Time every command and what it is compared with."""
    with TemporaryDirectory() as folder:
        snippet, recording = Path(folder) / "snippet.py", Path(folder) / "snippet.gradscope"
        snippet.write_text(SNIPPET)
        gradscope = [sys.executable, str(Path(sys.executable).with_name("gradscope"))]  # as pip installed it
        _run([*gradscope, "run", "-q", "-o", str(recording), str(snippet)])
        lines = {
            "import typer, rich.table": [sys.executable, "-c", "import typer, rich.table"],
            "--help": [*gradscope, "--help"],
            "list": [*gradscope, "list"],
            "report": [*gradscope, "report", str(recording)],
            "snippet": [sys.executable, str(snippet)],
            "run": [*gradscope, "run", str(snippet)],
            "run -q": [*gradscope, "run", "-q", str(snippet)],
            "compare": [*gradscope, "compare"],
        }
        timers = {name: partial(_run, line) for name, line in lines.items()}
        for timer in timers.values():
            timer()
        timings: dict[str, Timings] = {}
        for plain in dict.fromkeys(COMMANDS.values()):
            of_plain = {name: timers[name] for name, other in COMMANDS.items() if other == plain}
            timings |= take_turns(timers[plain], of_plain, rounds)
        return timings


def _run(line: list[str]) -> Seconds:
    """Wall and CPU seconds of a process and of those that it started."""
    # As installed by pip: with compiled modules, which this setting would have compiled anew in every process.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, started = _children(), time.perf_counter()
    subprocess.run(line, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return Seconds(time.perf_counter() - started, _children() - before)


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
