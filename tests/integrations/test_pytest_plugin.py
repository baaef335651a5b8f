"""The pytest plug-in, in runs of its own: off it does nothing, on it says why a test failed, also under xdist."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gradscope.analysis.sizes import bytes_in
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
MARKED = """
import pytest
import torch

pytestmark = pytest.mark.gradscope(max_saved="1 kB")

@pytest.mark.gradscope
def test_has_a_problem():
    w = torch.ones(2, requires_grad=True)
    h = w * 2
    h.sum().backward()
    h.grad

@pytest.mark.gradscope(no="grad-none-non-leaf, frozen", max_peak="1 MiB")
def test_has_that_answer():
    w = torch.ones(2, requires_grad=True)
    h = w * 2
    h.sum().backward()
    h.grad

@pytest.mark.gradscope(no=["leaf-unreached"])
def test_has_another_answer():
    w = torch.ones(2, requires_grad=True)
    h = w * 2
    h.sum().backward()
    h.grad

def test_saves_more():
    w = torch.ones(1000, requires_grad=True)
    w.exp().sum().backward()

@pytest.mark.gradscope(max_peak=4000)
def test_uses_more():
    torch.ones(1001)

def test_saves_less():
    w = torch.ones(2, requires_grad=True)
    w.exp().sum().backward()
"""
WRONG = """
import pytest

@pytest.mark.gradscope(no=["leaf-unreache"])
def test_code(): pass

@pytest.mark.gradscope(max_savde=1)
def test_name(): pass

@pytest.mark.gradscope(max_saved="much")
def test_size(): pass
"""
OFF = """
import sys

def test_nothing_is_imported():
    assert not [name for name in sys.modules if name.startswith("gradscope.rec") or name == "torch"]
"""


def pytest_run(folder: Path, source: str, *options: str) -> str:
    (folder / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "gradscope.integrations.pytest_plugin", "-p", "no:cacheprovider"]
    # -rN: without the summary, which has the whole messages once more where `CI` is set, and their starts elsewhere.
    return run([*command, "-q", "-rN", *options, "test_it.py"], cwd=folder).stdout


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


@pytest.mark.parametrize("options", [(), ("-n", "1")])
def test_a_marked_test_fails_where_what_it_says_is_broken(tmp_path: Path, options: tuple[str, ...]):
    shown = pytest_run(tmp_path, MARKED, "--strict-markers", *options)
    assert "4 failed, 2 passed" in shown
    for said in (
        "gradscope: problem: h.grad is None at line 12: ",
        "gradscope: problem: h.grad is None at line 19: ",
        "gradscope: 4,000 bytes were saved for backward (4,000 of them at line 30), and max_saved is 1,000\n",
        "gradscope: 4,004 bytes of tensors were in use at line 34, and max_peak is 4,000\n",
    ):
        assert shown.count(said) == 1, said
    assert "- gradscope -" not in shown


def test_a_marker_that_says_what_is_not_known_fails_its_test(tmp_path: Path):
    shown = pytest_run(tmp_path, WRONG)
    assert "3 failed" in shown
    assert (
        "there is no" not in shown
        and "'leaf-unreache' is no severity and no diagnosis; did you mean leaf-unreached" in shown
    )
    assert "max_savde is not known; it takes no=, max_saved=, max_peak=" in shown
    assert "max_saved='much' is no size; write a number of bytes" in shown


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("512", 512), ("10 MB", 10**7), ("1.5GiB", 3 * 2**29), ("2 kib", 2048), ("10 MBit", None), ("-1", None)],
)
def test_sizes_as_people_write_them(text: str, nbytes: int | None):
    assert bytes_in(text) == nbytes
