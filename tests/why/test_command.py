"""``gradscope why`` as a user runs it: streams, exit codes, the second run, JSON, and a screen that fits."""

from __future__ import annotations

import json
import os
from pathlib import Path
from textwrap import dedent

import pytest

from tests.cli.command import gradscope
from tests.why.test_answers import CUT

BORN_LATE = """
import sys
import torch

print("started", *sys.argv[1:])
x = torch.tensor([1.0], requires_grad=True)
z = torch.log(x - 2)
sys.exit(3)
"""


def test_a_plain_case_fits_a_screen_and_nothing_but_the_answer_is_on_it(tmp_path: Path):
    (tmp_path / "cut.py").write_text(CUT + "print('printed')\n")
    done = gradscope("why", "cut.py", "encoder.weight.grad", "--width", "80", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "printed\n")
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert not any(line != line.rstrip() for line in lines)
    assert lines[0].startswith("✗ encoder.weight.grad is None where the program ends")
    assert "  line 9  h = h.detach()" in lines


def test_it_runs_again_where_it_must_and_not_where_that_is_unwanted(tmp_path: Path):
    (tmp_path / "late.py").write_text(BORN_LATE)
    done = gradscope("why", "late.py", "z", "--", "--fast", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "it began at line 7, where torch.log gave NaN" in " ".join(done.stdout.split())
    assert "the program was run again" in done.stdout
    assert "started --fast" in done.stderr
    assert "gradscope: the program exited with status 3" in done.stderr
    once = gradscope("why", "late.py", "z", "--no-rerun", cwd=tmp_path)
    assert (once.returncode, "Where that began was not seen" in once.stdout) == (1, True)


def test_json_is_as_its_schema_says(tmp_path: Path):
    from jsonschema import Draft202012Validator

    (tmp_path / "cut.py").write_text(CUT)
    schema = json.loads(gradscope("schema", "why", cwd=tmp_path).stdout)
    answer = json.loads(gradscope("why", "cut.py", "head.weight.grad", "-f", "json", cwd=tmp_path).stdout)
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(answer)
    assert (answer["format"], answer["outcome"], answer["code"]) == ("gradscope-why", "answered", "")


def test_what_cannot_be_asked_is_one_message_and_no_run(tmp_path: Path):
    (tmp_path / "cut.py").write_text(CUT + "print('printed')\n")
    for arguments, said in (
        (("w +",), "'w +' is no Python expression"),
        (("w", "--line", "3"), "cannot be asked for together"),
        (("w", "--at", "99"), "has no statement at line 99"),
        (("--at", "3"), "--at says where an expression is evaluated"),
    ):
        done = gradscope("why", "cut.py", *arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert "printed" not in done.stderr
    wrong = gradscope("why", "cut.py", "nothing.grad", cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "raises NameError: name 'nothing' is not defined" in wrong.stderr


def test_a_second_run_that_ends_otherwise_answers_nothing(tmp_path: Path):
    source = """
    import torch

    z = torch.log(torch.ones(2) - int(input()))
    """
    (tmp_path / "asks.py").write_text(dedent(source))
    done = gradscope("why", "asks.py", "z", cwd=tmp_path, stdin="2\n")
    assert done.returncode == 1, done.stderr
    assert "z is NaN where the program ends. Where that began was not seen." in done.stdout
    assert "the program was run again, with no input, and raised EOFError" in " ".join(done.stdout.split())


@pytest.mark.skipif(not hasattr(os, "getppid"), reason="no process groups")
def test_an_interrupt_of_the_second_run_leaves_the_answer_of_the_first(tmp_path: Path):
    (tmp_path / "late.py").write_text(
        BORN_LATE.replace(
            "sys.exit(3)",
            """
import os, pathlib, signal, time
if pathlib.Path("ran").exists():
    pathlib.Path("ran").write_text(str(os.getpid()))
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(60)
pathlib.Path("ran").touch()
""",
        )
    )
    done = gradscope("why", "late.py", "z", cwd=tmp_path)
    assert done.returncode == 1, done.stderr  # where it was born is not known
    assert "z is NaN" in done.stdout
    assert "a second run, which looks at every value, was interrupted" in " ".join(done.stdout.split())
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "ran").read_text()), 0)
