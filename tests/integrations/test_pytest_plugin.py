"""The pytest plug-in, in runs of its own: off it does nothing, on it says why a test failed, also under xdist."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.processes import run

TESTS = """
import sys
import torch

def test_fails():
    w = torch.ones(2, requires_grad=True)
    h = w * 2
    h.sum().backward()
    assert h.grad is not None

def test_passes():
    w = torch.ones(2, requires_grad=True)
    assert (w * 2).grad is None
"""
WITH_FIXTURE = """
import pytest
import torch

seen = []

def test_records(gradscope_recording):
    seen.append(gradscope_recording)
    torch.ones(2, requires_grad=True).sum().backward()

def test_is_recorded():
    assert len(seen[0].backwards) == 1 and seen[0].info.outcome.kind == "ok"
"""
OFF = """
import sys

def test_nothing_is_imported():
    assert not [name for name in sys.modules if name.startswith("gradscope.rec") or name == "torch"]
"""


def pytest_run(folder: Path, source: str, *options: str) -> str:
    (folder / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "gradscope.integrations.pytest_plugin", "-p", "no:cacheprovider"]
    return run([*command, "-q", *options, "test_it.py"], cwd=folder).stdout


@pytest.mark.parametrize("options", [(), ("-n", "1")])
def test_the_answers_of_failing_tests_are_printed(tmp_path: Path, options: tuple[str, ...]):
    shown = pytest_run(tmp_path, TESTS, "--gradscope", *options)
    assert "1 failed, 1 passed" in shown
    assert "problem: h.grad is None at line 9" in shown and "[grad-none-non-leaf]" in shown
    assert shown.count("- gradscope -") == 1


def test_it_is_off_until_it_is_asked_for(tmp_path: Path):
    assert "- gradscope -" not in pytest_run(tmp_path, TESTS)
    assert "1 passed" in pytest_run(tmp_path, OFF)


def test_the_fixture_is_the_recording_of_its_test(tmp_path: Path):
    assert "2 passed" in pytest_run(tmp_path, WITH_FIXTURE)
