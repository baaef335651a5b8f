"""The built wheel, as somebody gets it who has no checkout: the scenarios are in it, and are user code."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from pathlib import Path

import pytest

from tests.processes import run as run_command

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    built = run_command(command)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def gradscope(installed: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "gradscope", *arguments]
    done = run_command(command, cwd=installed.parent, env=environment, check=True)
    return done.stdout


def test_it_brings_the_scenarios(installed: Path) -> None:
    found = json.loads(gradscope(installed, "list", "-f", "json"))
    assert {Path(scenario["path"]).parent for scenario in found} == {installed / "gradscope" / "_scenarios"}
    assert {scenario["name"] for scenario in found} == {path.stem for path in (ROOT / "scenarios").glob("*.py")}


def test_its_scenarios_are_recorded_line_by_line(installed: Path) -> None:
    report = json.loads(gradscope(installed, "run", "-f", "json", "detach"))
    checkout = json.loads(gradscope(ROOT, "run", "-f", "json", "detach"))
    assert [row["line"] for row in report["lines"]] == [row["line"] for row in checkout["lines"]] != []


def test_it_is_typed_and_needs_no_checkout(installed: Path) -> None:
    assert (installed / "gradscope" / "py.typed").exists()
    assert not (installed / "scenarios").exists() and not (installed / "tests").exists()


def test_it_brings_the_manual_pages_once(installed: Path) -> None:
    (page,) = installed.rglob("gradscope-run.1")
    assert page.match("gradscope-*.data/data/share/man/man1/gradscope-run.1")


def test_it_writes_pages(installed: Path, tmp_path: Path) -> None:
    gradscope(installed, "run", "-q", "-o", str(tmp_path / "page.html"), "detach")
    assert "default-src 'none'" in (tmp_path / "page.html").read_text(encoding="utf-8")
