"""A test that ends early leaves no process of those that it started."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from tests.processes import run, started

WITH_CHILDREN = """
import os, sys, time
leaves_group = os.fork()
if leaves_group == 0:
    os.setsid()
    os.fork()
open(f"{os.getpid()}.pid", "w").close()
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    """A zombie, whose parent has not asked for it yet, is over."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes under /proc")
def test_what_a_command_started_ends_with_it(tmp_path: Path) -> None:
    def numbers() -> list[int]:
        return [int(file.stem) for file in tmp_path.glob("*.pid")]

    with pytest.raises(KeyError), started([sys.executable, "-c", WITH_CHILDREN], cwd=tmp_path):
        while len(numbers()) < 3:
            time.sleep(0.02)
        raise KeyError
    while any(is_running(pid) for pid in numbers()):
        time.sleep(0.02)


def test_what_a_command_says() -> None:
    done = run(["cat"], input="text")
    assert (done.returncode, done.stdout, done.stderr) == (0, "text", "")
    with pytest.raises(AssertionError, match="why"):
        run([sys.executable, "-c", "import sys; sys.exit('why')"], check=True, env=dict(os.environ))
