"""Programs run by Python alone, without gradscope: what they print, and how they end.

torch is imported once, in a process that then forks for each program.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.processes import run as run_command

_DRIVER = """
import json, os, runpy, sys, tempfile
import torch

results = []
for path in json.load(sys.stdin):
    with tempfile.TemporaryFile() as output:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                sys.argv, sys.path[0] = [path], os.path.dirname(path)
                runpy.run_path(path, run_name="__main__")
                assert "gradscope" not in sys.modules
                status = 0
            except BaseException:
                import traceback
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(pid, 0)
        output.seek(0)
        results.append([os.waitstatus_to_exitcode(status), output.read().decode()])
print(json.dumps(results))
"""


@dataclass(frozen=True)
class Plain:
    """How one program went."""

    exit_code: int
    output: str
    """Standard output and standard error, as they came."""


def run_plain(paths: Sequence[Path]) -> list[Plain]:
    """Run each program in a process of its own."""
    done = run_command(
        [sys.executable, "-u", "-c", _DRIVER],
        input=json.dumps([str(path) for path in paths]),
        check=True,
    )
    return [Plain(code, output) for code, output in json.loads(done.stdout)]
