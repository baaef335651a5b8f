"""Programs that use other people's libraries, bare and recorded: the same output, no false alarm, the cause named.

Not in the normal run: ``pip install -e '.[libraries]'``, then ``pytest -m libraries``. What is not installed in the
version that ``pyproject.toml`` names is skipped, and pytest says so.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer, Report
from gradscope.recording import Recording
from gradscope.recording.file.reader import load
from gradscope.report.run.run_screen import render
from tests.libraries.library_programs import NEEDS, Program, pinned, programs
from tests.processes import run

ALL = [pytest.param(one, id=one.name, marks=pytest.mark.xdist_group(one.name)) for one in programs()]
"""With ``pytest -n 2 --dist loadgroup`` each program runs once."""
HEALTHY = [one for one in ALL if one.values[0].is_healthy]  # type: ignore[union-attr]
MISTAKEN = [one for one in ALL if not one.values[0].is_healthy]  # type: ignore[union-attr]
_OFFLINE = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
_IMPORT = re.compile(r"^ *\d+( ×\d+)?  (import|from) ", re.MULTILINE)
"""A row of the line table about an import."""


@dataclass(frozen=True)
class Ran:
    """One program, bare and recorded."""

    bare: tuple[int, str]
    """Exit code and standard output."""
    recorded: tuple[int, str]
    recording: Recording
    report: Report

    def screen(self) -> str:
        """The first screen at 80 columns."""
        console = Console(width=80, file=StringIO(), force_terminal=False)
        render(self.report, console)
        return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.fixture(scope="session")
def ran_before() -> dict[str, Ran]:
    return {}


@pytest.fixture
def ran(program: Program, ran_before: dict[str, Ran], tmp_path: Path) -> Ran:
    if missing := program.missing():
        pytest.skip(f"{program.name} is not run: needs {missing}")
    if program.name not in ran_before:
        ran_before[program.name] = _run(program, tmp_path / "run.gradscope")
    return ran_before[program.name]


def _run(program: Program, file: Path) -> Ran:
    options = {"env": {**os.environ, **_OFFLINE}, "cwd": file.parent}
    bare = run([sys.executable, str(program.path)], **options)
    command = [sys.executable, "-m", "gradscope", "run", "--quiet", "-o", str(file), str(program.path)]
    recorded = run(command, **options)
    recording = load(file)
    outputs = (bare.returncode, bare.stdout), (recorded.returncode, recorded.stdout)
    return Ran(*outputs, recording, build(recording))


def alarms(report: Report) -> list[Answer]:
    """Answers that ask for a change."""
    return [answer for answer in report.answers if answer.severity != "note"]


@pytest.mark.libraries
@pytest.mark.parametrize("program", ALL)
def test_it_prints_and_ends_as_without_gradscope(ran: Ran) -> None:
    assert ran.recorded == ran.bare


@pytest.mark.libraries
@pytest.mark.parametrize("program", ALL)
def test_nothing_of_gradscope_fails(ran: Ran) -> None:
    assert [fault.traceback for fault in ran.recording.faults] == []
    assert ran.report.summary.faults == 0
    assert ran.report.summary.ops > 10


@pytest.mark.libraries
@pytest.mark.parametrize("program", HEALTHY)
def test_a_healthy_program_has_no_alarm(program: Program, ran: Ran) -> None:
    assert ran.bare[0] == 0
    assert [(answer.code, answer.text) for answer in alarms(ran.report)] == []


@pytest.mark.libraries
@pytest.mark.parametrize("program", MISTAKEN)
def test_the_cause_of_a_mistake_is_named(program: Program, ran: Ran) -> None:
    named = {int(number) for one in alarms(ran.report) for number in re.findall(r"\bline (\d+)", one.text, re.I)}
    named |= {cause.line for answer in alarms(ran.report) for cause in answer.causes}
    assert named & program.causes, [answer.text for answer in ran.report.answers]


@pytest.mark.libraries
@pytest.mark.parametrize("program", ALL)
def test_the_first_screen_is_about_the_users_code(program: Program, ran: Ran) -> None:
    shown = ran.screen()
    assert not _IMPORT.search(shown)
    assert "site-packages" not in shown
    assert {Path(row.file).name for row in ran.report.lines} == {program.path.name}
    assert max(map(len, shown.splitlines())) <= 80


def test_every_program_has_its_versions_pinned() -> None:
    """In the normal run, where no library is needed."""
    assert {name for needs in NEEDS.values() for name in needs} == set(pinned())
    names = {program.name.removesuffix("_mistake") for program in programs()}
    assert names == set(NEEDS)
    assert all(bool(program.causes) != program.is_healthy for program in programs())
