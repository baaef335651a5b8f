"""Start-up: the commands against plain Python, as processes of their own, taking turns."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.measure import Timings

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
        timings = {name: Timings() for name in lines}
        for line in lines.values():
            _run(line)
        for _ in range(rounds):
            for name, line in lines.items():
                wall, cpu = _run(line)
                timings[name].wall.append(wall)
                timings[name].cpu.append(cpu)
        return timings


def _run(line: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a process and of those that it started."""
    # As installed by pip: with compiled modules, which this setting would have compiled anew in every process.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, started = _children(), time.perf_counter()
    subprocess.run(line, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started, _children() - before


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
