"""``gradscope whatif`` as a user runs it: streams, exit codes, formats, screens that fit, and nothing left running."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from gradscope.report.whatif.whatif_formats import DOCUMENT
from tests.cli.command import GRADSCOPE
from tests.compare.test_command import gradscope
from tests.processes import started

TRAIN = """\
import sys
import torch

torch.manual_seed(0)
encoder, head = torch.nn.Linear(3, 4), torch.nn.Linear(4, 1)
print("printed", *sys.argv[1:])
for step in range(3):
    features = encoder(torch.ones(2, 3))
    loss = head(features).pow(2).mean()
    loss.backward()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(TRAIN)
    return tmp_path


def test_the_screen_fits_and_ends_with_what_it_would_save_and_break(folder: Path) -> None:
    options = ("--repeat", "0", "--width", "80", "--stop-after", "2", "-o", "w.json", "-o", "w.md", "-o", "w.txt")
    code, out, err = gradscope(["whatif", "train.py", "8", "no_grad", "clone", *options, "--", "--epochs"], folder)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "gradscope whatif train.py  line 8"
    assert "no_grad  with torch.no_grad(): features = encoder(torch.ones(2, 3))" in lines
    assert "  ✗ 2 leaves get no gradient any more: encoder.weight and encoder.bias" in lines
    end = " ".join(lines[-3:])
    assert "Would save: no_grad (" in end and "Would break: no_grad (2 of 4 gradients)." in end
    found = json.loads((folder / "w.json").read_text())
    Draft202012Validator(DOCUMENT.schema()).validate(found)
    assert (found["outcome"], found["trials"][0]["passes"]) == ("breaks", 2)
    assert found["trials"][1]["lost"] == ["encoder.weight", "encoder.bias"]
    assert "**no\\_grad**" in (folder / "w.md").read_text()
    assert "Would break" in (folder / "w.txt").read_text()
    assert (folder / "train.py").read_text() == TRAIN


def test_data_on_standard_output_is_nothing_but_data(folder: Path) -> None:
    code, out, err = gradscope(["whatif", "train.py", "8", "--repeat", "0", "-f", "json", "--seed", "1"], folder)
    names = [trial["name"] for trial in json.loads(out)["trials"]]
    assert names[:3] == ["as it is", "detach", "no_grad"] and "requires_grad_(False)" in names
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("source", "line", "says"),
    [
        ("print(input())\nx = 1\n", "2", "reads standard input, which its runs have none of"),
        ("raise ValueError('bad')\nx = 1\n", "2", "line 2 of p.py was not run: the program raised ValueError before"),
        ("x = 1\n", "1", "no variant makes sense for line 1 of p.py: x = 1"),
        ("x = (\n", "1", "p.py is not valid Python"),
        ("import os\nx = os._exit(3)\n", "9", "line 9 of p.py has no statement"),
    ],
)
def test_what_cannot_be_tried_is_one_clear_message(tmp_path: Path, source: str, line: str, says: str) -> None:
    (tmp_path / "p.py").write_text(source)
    code, out, err = gradscope(["whatif", "p.py", line], tmp_path)
    assert (code, out) == (2, "")
    assert says in err
    assert "Traceback" not in err


def test_each_run_has_a_copy_of_the_input(tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(
        "import torch\nw = torch.tensor(float(input()), requires_grad=True)\nh = w * 2\nh.backward()\n"
    )
    (tmp_path / "in.txt").write_text("1.5\n")
    options = ("--input", "in.txt", "--repeat", "0", "-f", "json")
    _, out, _ = gradscope(["whatif", "p.py", "3", "w * 3", *options], tmp_path)
    trials = json.loads(out)["trials"]
    assert [trial["outcome"] for trial in trials] == ["ok", "ok"]
    assert trials[1]["gradients"]["largest"] == 1.0


HANGING = """\
import os, time, torch
w = torch.ones(2, requires_grad=True)
h = w * 2
if {condition}:
    open(f"{{os.getpid()}}.pid", "w").close()
    if not os.fork():
        open(f"{{os.getpid()}}.pid", "w").close()
    time.sleep(600)
h.sum().backward()
"""


@pytest.mark.parametrize(
    ("number", "condition"),
    [(signal.SIGINT, "True"), (signal.SIGTERM, "not h.requires_grad")],
    ids=["unchanged", "variant"],
)
def test_an_interrupt_ends_all_runs_and_leaves_nothing(tmp_path: Path, number: int, condition: str) -> None:
    (tmp_path / "p.py").write_text(HANGING.format(condition=condition))
    folders = tmp_path / "folders"
    folders.mkdir()
    with started(
        [GRADSCOPE, "whatif", "p.py", "3", "detach"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(folders)},
        preexec_fn=lambda: signal.signal(number, signal.default_int_handler if number == signal.SIGINT else 0),
    ) as process:
        while len(list(tmp_path.glob("*.pid"))) < 2:
            time.sleep(0.05)
        process.send_signal(number)
        process.wait()
    assert process.returncode in (-number, 128 + number)
    assert list(folders.iterdir()) == []
    for child in (int(path.stem) for path in tmp_path.glob("*.pid")):
        with pytest.raises(ProcessLookupError):
            while True:
                os.kill(child, 0)
                time.sleep(0.05)


def test_a_run_that_takes_too_long_is_a_result(tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(HANGING.format(condition="not h.requires_grad"))
    options = ("--timeout", "20", "--repeat", "0", "-f", "json")
    code, out, err = gradscope(["whatif", "p.py", "3", "detach", *options], tmp_path)
    assert code == 0, err
    assert [trial["outcome"] for trial in json.loads(out)["trials"]] == ["ok", "timeout"]
