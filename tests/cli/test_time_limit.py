"""``gradscope run --timeout``: a program that takes too long is ended, with all that it started."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from gradscope.recording.file.store import load
from tests.cli.command import gradscope

WAITS = """\
import os, time
started = os.fork()
if started:
    print("waits for", started)
time.sleep(600)
"""


def test_it_is_ended_where_it_stands_and_nothing_of_it_is_left(tmp_path: Path):
    (tmp_path / "waits.py").write_text(WAITS)
    done = gradscope("run", "--timeout", "1", "-f", "json", "-o", "run.gradscope", "waits.py", cwd=tmp_path)
    assert done.returncode == 124
    told = "gradscope: the program was ended after 1 second (--timeout) at waits.py:5: time.sleep(600)"
    assert told in done.stderr.splitlines()
    shown = json.loads(done.stdout)["run"]
    assert (shown["outcome"], shown["exit_code"], shown["error_place"]["line"]) == ("timeout", 124, 5)
    outcome = load(tmp_path / "run.gradscope").info.outcome
    assert (outcome.kind, outcome.line) == ("timeout", 5)
    child = next(int(line.split()[-1]) for line in done.stderr.splitlines() if line.startswith("waits for"))
    with suppress(ProcessLookupError):
        os.kill(child, 0)
        raise AssertionError(f"process {child} is left")


def test_a_program_that_ends_in_time_ends_as_it_would(tmp_path: Path):
    program = "import atexit, sys; atexit.register(print, 'last'); print('first'); sys.exit(3)"
    done = gradscope("run", "-q", "--timeout", "100", "-c", program, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (3, "first\nlast\n", "")
    refused = gradscope("run", "--timeout", "0", "-c", "1", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--timeout 0 is no length of time" in refused.stderr
