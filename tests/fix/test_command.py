"""``gradscope fix`` as a user calls it: what it prints, writes and refuses, and its exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest
from jsonschema import Draft202012Validator

from gradscope.report.fix.fix_formats import DOCUMENT
from tests.cli.command import GRADSCOPE, gradscope
from tests.processes import run, started

KEPT = dedent("""\
    import torch

    w = torch.ones(3, requires_grad=True)
    total = 0
    for step in range(12):
    \tloss = (w * step).sum()
    \tloss.backward()
    \ttotal += loss  # it grows
    print("total", float(total))
""")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "kept.py"
    path.write_bytes(KEPT.replace("\n", "\r\n").encode())
    return path


def test_the_screen_shows_the_diff_and_its_proof_and_nothing_is_changed(kept: Path):
    done = gradscope("fix", kept.name, "--check", "--width", "80", cwd=kept.parent)
    assert done.returncode == 1, done.stderr
    for line in ("   -\ttotal += loss  # it grows", "   +\ttotal += loss.detach()  # it grows"):
        assert line.replace("\t", "    ") in done.stdout
    assert "[graph-carried-along] is gone" in done.stdout and "1 the same" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert not any(line != line.rstrip() for line in done.stdout.splitlines() if line.strip())
    assert kept.read_bytes() == KEPT.replace("\n", "\r\n").encode()


def test_an_error_that_an_edit_takes_away_is_said_to_be_gone(tmp_path: Path):
    (tmp_path / "whole.py").write_text("import torch\nx = torch.tensor([1, 2], requires_grad=True)\n")
    shown = " ".join(gradscope("fix", "whole.py", "--width", "120", cwd=tmp_path).stdout.split())
    assert "end RuntimeError: Only Tensors of floating point and complex" in shown and "comes to its end" in shown


def test_the_diff_is_taken_by_git_and_the_json_fits_its_schema(kept: Path):
    done = gradscope("fix", kept.name, "-f", "json", "-o", "fix.diff", cwd=kept.parent)
    assert done.returncode == 0, done.stderr
    Draft202012Validator(DOCUMENT.schema()).validate(json.loads(done.stdout))
    run(["git", "apply", "fix.diff"], check=True, cwd=kept.parent)
    assert kept.read_bytes() == KEPT.replace("+= loss ", "+= loss.detach() ").replace("\n", "\r\n").encode()


def test_write_applies_the_edit_and_keeps_tabs_line_ends_and_comments(kept: Path):
    done = gradscope("fix", kept.name, "--write", cwd=kept.parent)
    assert done.returncode == 0 and "wrote" in done.stderr
    assert kept.read_bytes() == KEPT.replace("+= loss ", "+= loss.detach() ").replace("\n", "\r\n").encode()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.py"], "missing.py"),
        (["kept.py", "--write", "--check"], "cannot be used together"),
        (["-c", "import torch", "--write"], "needs a file"),
        (["kept.py", "--select", "no-such-code"], "no-such-code"),
        (["kept.py", "--timeout", "0"], "no length of time"),
    ],
)
def test_wrong_use_is_one_message(kept: Path, arguments: list[str], said: str):
    done = gradscope("fix", *arguments, cwd=kept.parent)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_an_interrupt_ends_it_and_the_programs_that_run(tmp_path: Path):
    (tmp_path / "slow.py").write_text(
        "import os, time, torch\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    )
    with started(
        [GRADSCOPE, "fix", "slow.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode in (-signal.SIGINT, 130)
    number = int((tmp_path / "pid").read_text())
    if sys.platform == "linux":
        for _ in range(200):
            if not Path(f"/proc/{number}").exists():
                break
            time.sleep(0.05)
        assert not Path(f"/proc/{number}").exists()


def test_explain_says_that_there_is_an_edit(tmp_path: Path):
    for code, has in (("graph-carried-along", True), ("frozen", False)):
        assert ("gradscope fix" in gradscope("explain", "--no-run", code, cwd=tmp_path).stdout) is has
