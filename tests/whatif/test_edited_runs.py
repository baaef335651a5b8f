"""Programs run with other source: what runs, what is noted, and that no file is touched and no process left."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from gradscope.experiments.edited.edited_job import EditedJob
from gradscope.experiments.edited.edited_runs import EditedRun, run_edited
from gradscope.targets.edited import EditedSource
from gradscope.targets.resolve import resolve

TRAINER = """\
import sys
import torch
from losses import square

torch.manual_seed(0)
layer = torch.nn.Linear(3, 2)
x = torch.ones(4, 3)
for step in range(3):
    layer.zero_grad()
    loss = square(layer(x))
    loss.backward()
print(sys.argv[1:], "end")
"""
LOSSES = """\
def square(h):
    return h.pow(2).sum()
"""


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trainer")
    (folder / "losses.py").write_text(LOSSES)
    (folder / "trainer.py").write_text(TRAINER)
    return folder / "trainer.py"


@pytest.fixture(scope="module")
def runs(trainer: Path) -> dict[str, EditedRun]:
    """All in one go: torch is imported once."""
    program = resolve(str(trainer))
    plain = EditedJob(program, ("--a", "1"))
    scaled = EditedSource(LOSSES.replace(".sum()", ".sum() * 2"))
    raising = EditedSource(TRAINER.replace("loss.backward()", "loss.backwards()"))
    jobs = {
        "plain": plain,
        "module": replace(plain, replacements={str(trainer.parent / "losses.py"): scaled}),
        "raising": replace(plain, replacements={program.filename: raising}),
        "stopped": replace(plain, stop_after=2),
        "unrecorded": replace(plain, stop_after=2, recorded=False),
    }
    found = run_edited(list(jobs.values()), fork=False)  # a fork of pytest has its logging and its warnings
    return dict(zip(jobs, found, strict=True))


def test_the_program_runs_as_it_is_with_its_arguments(runs: dict[str, EditedRun]) -> None:
    plain = runs["plain"]
    assert (plain.ending, plain.outcome.kind) == (0, "ok")
    assert plain.output == "['--a', '1'] end\n"
    assert [len(one.gradients) for one in plain.left.passes] == [2, 2, 2]
    assert len(plain.left.leaves) == 2
    assert [fault.traceback for fault in plain.recording.faults] == []


def test_a_module_of_the_users_is_replaced_and_its_lines_are_those_that_ran(
    runs: dict[str, EditedRun], trainer: Path
) -> None:
    plain, module = runs["plain"].left, runs["module"].left
    assert [one.losses[0] for one in module.passes] == [2 * one.losses[0] for one in plain.passes]
    (text,) = (file.text for file in module.recording.files if file.path.endswith("losses.py"))
    assert "* 2" in text
    assert (trainer.parent / "losses.py").read_text() == LOSSES
    assert "* 2" not in "".join(str(path.read_bytes()) for path in trainer.parent.rglob("*.pyc"))


def test_a_traceback_shows_the_line_that_ran(runs: dict[str, EditedRun]) -> None:
    raising = runs["raising"]
    assert raising.outcome.kind == "exception"
    assert "    loss.backwards()" in raising.output


def test_a_run_that_is_stopped_has_its_last_pass_whole(runs: dict[str, EditedRun]) -> None:
    stopped, plain = runs["stopped"].left, runs["plain"].left
    assert stopped.was_stopped
    assert runs["stopped"].outcome.kind == "ok"
    assert runs["stopped"].output == ""
    assert len(stopped.recording.backwards) == 2
    assert stopped.passes == tuple(one for one in plain.passes[:2])
    assert {row.op for row in stopped.recording.gradients} == {row.op for row in list(plain.recording.gradients)[:4]}


def test_a_run_without_the_recorder_takes_its_time_and_is_stopped_alike(runs: dict[str, EditedRun]) -> None:
    left = runs["unrecorded"].left
    assert (left.pass_count, left.was_stopped, len(left.recording.ops)) == (2, True, 0)
    assert 0 < left.backward_ns < left.wall_ns


def test_random_numbers_are_a_new_interpreters_unless_they_are_seeded(tmp_path: Path) -> None:
    path = tmp_path / "random_loss.py"
    path.write_text("import torch\nw = torch.randn(3, requires_grad=True)\nw.sum().backward()\n")
    job = EditedJob(resolve(str(path)))
    one, other, seeded, again = run_edited([job, job, replace(job, seed=1), replace(job, seed=1)], fork=True)
    assert one.left.passes[0].losses != other.left.passes[0].losses
    assert seeded.left.passes[0].losses == again.left.passes[0].losses


def test_input_and_processes_are_noticed_and_nothing_is_left_running(tmp_path: Path) -> None:
    reading = tmp_path / "reading.py"
    reading.write_text("print(input().upper())\n")
    given = tmp_path / "given.txt"
    given.write_text("abc\n")
    leaving = tmp_path / "leaving.py"
    leaving.write_text("import os, time\nif not (pid := os.fork()):\n    time.sleep(600)\nprint(pid)\n")
    jobs = [
        EditedJob(resolve(str(reading))),
        EditedJob(resolve(str(reading)), input=str(given)),
        EditedJob(resolve(str(leaving))),
    ]
    empty, full, left = run_edited(jobs, fork=False)
    assert (empty.left.read_input, empty.outcome.error_type) == (True, "EOFError")
    assert full.output == "ABC\n"
    assert (left.left.read_input, left.left.processes) == (False, 1)
    assert is_gone(int(left.output))


def is_gone(pid: int) -> bool:
    """It may take a moment until somebody else has reaped it."""
    for _ in range(1000):
        with suppress(ProcessLookupError):
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat")
            if state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.01)
                continue
        return True
    return False
