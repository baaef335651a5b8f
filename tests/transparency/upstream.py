"""Run a test file of torch's own twice, bare and with a recorder around each test, and list what differs.

By hand, since torch's tests are not in its wheel; ``test/test_autograd.py`` is in torch's source archive::

    python tests/transparency/upstream.py path/to/test_autograd.py [-k EXPRESSION]

Exit code 1 when a test that passes bare fails recorded, or when the recorder had a fault of its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import run as run_command

RECORDED = "GRADSCOPE_UPSTREAM_RECORDED"
LOG = "GRADSCOPE_UPSTREAM_LOG"
SECONDS = 300
"""After which a test that hangs is killed, and the process with it."""


class Log:
    """One JSON line an event, written at once: what a test that kills the process said last is kept."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def write(self, **event: Any) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")


class Plugin:
    """Logs every test's outcome, with a recorder around each where that is asked for."""

    def __init__(self, log: Log, recorded: bool) -> None:
        self._log = log
        self._recorded = recorded

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        self._log.write(test=item.nodeid, outcome="killed the process")
        signal.alarm(SECONDS)
        if not self._recorded:
            yield
            return
        from gradscope.recorder.session import Recorder

        recorder = Recorder(is_user=str(item.path).__eq__)
        recorder.start()
        try:
            yield
        finally:
            recorder.stop()
        for fault in recorder.recording.faults:
            self._log.write(test=item.nodeid, fault=f"{fault.where} ({fault.count}x)\n{fault.traceback}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        signal.alarm(0)
        if report.when == "call" or report.outcome != "passed":
            self._log.write(test=report.nodeid, outcome=report.outcome, text=report.longreprtext)


def run_tests(file: Path, arguments: list[str], recorded: bool) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Outcome of each test, and the texts of failures and faults; goes on after a test that kills the process."""
    outcomes: dict[str, str] = {}
    texts: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        while True:
            log.write_text("")
            skipped = [f"--deselect={test}" for test in outcomes]
            command = [sys.executable, __file__, "--inner", file.name, *arguments, *skipped]
            environment = {**os.environ, LOG: str(log), RECORDED: str(int(recorded))}
            finished = run_command(command, cwd=file.parent, env=environment)
            for line in log.read_text(encoding="utf-8").splitlines():
                event = json.loads(line)
                if "outcome" in event:
                    outcomes[event["test"]] = event["outcome"]
                if event.get("fault") or event.get("text"):
                    texts.setdefault(event["test"], []).append(event.get("fault") or event["text"])
            if outcomes and finished.returncode in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
                return outcomes, texts
            # A conftest.py that this pytest refuses ends it with the code of failed tests, before any test ran.
            if finished.returncode >= 0 or not log.read_text():
                raise SystemExit(f"pytest could not run {file}:\n{finished.stdout}{finished.stderr}")


def main(file: Path, arguments: list[str]) -> int:
    """Print how many tests passed bare and recorded, and what passes bare and fails recorded."""
    bare, _ = run_tests(file, arguments, recorded=False)
    recorded, texts = run_tests(file, arguments, recorded=True)
    print(f"bare:     {dict(Counter(bare.values()))}")
    print(f"recorded: {dict(Counter(recorded.values()))}")
    broken = [test for test, outcome in bare.items() if outcome == "passed" and recorded.get(test) != "passed"]
    for test in broken:
        print(f"\n=== passes bare, recorded: {recorded.get(test)}: {test}", *texts.get(test, []), sep="\n")
    faults = [test for test in texts if test not in broken and recorded.get(test) == "passed"]
    for test in faults:
        print(f"\n=== fault of the recorder in {test}", *texts[test], sep="\n")
    print(f"\n{len(broken)} tests that pass bare fail recorded; {len(faults)} more with a fault of the recorder")
    return 1 if broken or faults else 0


def inner(arguments: list[str]) -> int:
    """One run of pytest in a process of its own."""
    plugin = Plugin(Log(os.environ[LOG]), os.environ[RECORDED] == "1")
    return int(pytest.main([*arguments, "-q", "-p", "no:cacheprovider"], plugins=[plugin]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inner"]:
        sys.path[0] = str(Path.cwd())  # as pytest would be started in the tests' own folder
        raise SystemExit(inner(sys.argv[2:]))
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        raise SystemExit(__doc__)
    raise SystemExit(main(Path(sys.argv[1]).resolve(), sys.argv[2:]))
