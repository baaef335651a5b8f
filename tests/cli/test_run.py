"""``gradscope run`` as a command: where output goes, files, exit codes, and what is left when a program is ended."""

from __future__ import annotations

import json
import resource
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from gradscope.recording.file.store import load
from tests.cli.command import GRADSCOPE, gradscope
from tests.processes import run as run_command

TRAIN = """
import os, subprocess, sys, torch
print('from the program', sys.argv[1:])
os.write(1, b'from C\\n')
subprocess.run(['echo', 'from a child'])
w = torch.ones(2, requires_grad=True)
loss = (w * 3).sum()
loss.backward()
sys.exit(4)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(TRAIN)
    return tmp_path


def test_the_tables_follow_the_programs_output(folder: Path):
    done = gradscope("run", "train.py", "--all", "-q", cwd=folder)
    assert done.returncode == 4
    assert done.stderr == ""
    before, _, after = done.stdout.partition("gradscope train.py")
    assert sorted(before.split("\n")) == sorted(["from C", "from a child", "from the program ['--all', '-q']", ""])
    assert "loss.backward()" in after
    assert "\x1b" not in done.stdout


def test_data_has_standard_output_to_itself_and_files_are_written(folder: Path):
    done = gradscope(
        *("run", "-f", "json", "-o", "run.gradscope", "-o", "run.csv", "-o", "run.md", "train.py"), cwd=folder
    )
    assert done.returncode == 4
    report = json.loads(done.stdout)
    assert (report["outcome"], report["run"]["exit_code"]) == ("exit", 4)
    for text in ("from the program", "from C", "from a child"):
        assert text in done.stderr
    recording = load(folder / "run.gradscope")
    assert recording.info.outcome.exit_code == 4
    assert len(recording.ops) == report["summary"]["ops"] == 4
    assert (folder / "run.csv").read_text().startswith("file,line,")
    assert "|" in (folder / "run.md").read_text()


@pytest.mark.parametrize("ending", ["os._exit(7)", "os.kill(os.getpid(), signal.SIGTERM)", "raise KeyboardInterrupt"])
def test_a_program_that_is_ended_leaves_a_recording(tmp_path: Path, ending: str):
    source = f"import os, signal, torch\nx = torch.ones(2) * 2\n{ending}\nimport time\ntime.sleep(600)\n"
    (tmp_path / "ended.py").write_text(source)
    done = gradscope("run", "-q", "-o", "run.gradscope", "ended.py", cwd=tmp_path)
    recording = load(tmp_path / "run.gradscope")
    outcome = recording.info.outcome
    wanted = {"o": ("exit", 7), "s": ("signal", 128 + signal.SIGTERM), "r": ("interrupted", 128 + signal.SIGINT)}
    kind, code = wanted["s" if "kill" in ending else ending[0]]
    assert (outcome.kind, outcome.exit_code) == (kind, code)
    assert done.returncode == (code if code < 128 else 128 - code)
    assert len(recording.ops) == 2


def test_a_forked_child_that_ends_at_once_shows_no_table(tmp_path: Path):
    source = "import os, torch\nx = torch.ones(2)\nif not os.fork(): os._exit(3)\nprint('status', os.wait()[1] >> 8)\n"
    (tmp_path / "forks.py").write_text(source)
    done = gradscope("run", "-o", "run.gradscope", "forks.py", cwd=tmp_path)
    assert done.stdout.startswith("status 3\n") and done.stdout.count("x = torch.ones(2)") == 1
    assert load(tmp_path / "run.gradscope").info.outcome.kind == "ok"


def test_a_signal_in_the_midst_of_recording_leaves_a_whole_recording(tmp_path: Path):
    (tmp_path / "loop.py").write_text(
        textwrap.dedent("""
            import os, signal, threading, torch
            x = torch.ones(2, requires_grad=True)
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
            while True:
                y = x * 2
        """)
    )
    done = gradscope("run", "-q", "-o", "run.gradscope", "loop.py", cwd=tmp_path)
    assert done.returncode == -signal.SIGTERM
    recording = load(tmp_path / "run.gradscope")
    assert recording.info.outcome.kind == "signal"
    assert not recording.faults
    assert len(recording.ops) > 100


def test_a_killed_program_leaves_what_was_written_until_then(tmp_path: Path):
    (tmp_path / "killed.py").write_text(
        "import os, torch\nx = torch.ones(2)\nfor i in range(20_000):\n    y = x * 2\nos.kill(os.getpid(), 9)\n"
    )
    assert gradscope("run", "-q", "-o", "run.gradscope", "killed.py", cwd=tmp_path).returncode == -9
    recording = load(tmp_path / "run.gradscope")
    assert recording.info.outcome.kind == "running"
    assert len(recording.ops) > 5_000


def test_a_reader_that_leaves_is_no_error(folder: Path):
    command = f"{GRADSCOPE} run --all -f jsonl train.py 2>/dev/null | head -1; echo ${{PIPESTATUS[0]}}"
    done = run_command(["bash", "-c", command], cwd=folder)
    assert done.stderr == ""
    assert done.stdout.split("\n")[1] == "4"


def test_a_closed_standard_output_is_no_error(folder: Path):
    for options in ("", "-f json"):
        done = run_command(
            ["bash", "-c", f"{GRADSCOPE} run {options} -c 'import torch; torch.ones(2); print(1)' >&-"],
            cwd=folder,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_program_cannot_take_the_result_with_it(tmp_path: Path):
    (tmp_path / "closes.py").write_text("import os, sys, torch\ntorch.ones(2)\nsys.stdout.close()\nos.close(1)\n")
    assert "torch.ones(2)" in gradscope("run", "closes.py", cwd=tmp_path).stdout


def test_what_is_watched_in_a_destructor_does_no_harm_when_python_ends(tmp_path: Path):
    (tmp_path / "late.py").write_text(
        "import torch\nclass Late:\n    def __del__(self):\n        x = 1  # watch: x\n"
        "torch.late = Late()\nlate = Late()\nlate.itself = late\n"
    )
    done = gradscope("run", "-q", "late.py", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_disk_that_is_full_is_said_and_does_not_hide_how_the_program_ended(folder: Path):
    done = gradscope("run", "-q", "-o", "/dev/full", "-c", "x = 1", cwd=folder)
    assert done.returncode == 2  # its suffix tells no format
    (folder / "full.json").symlink_to("/dev/full")
    done = gradscope("run", "-q", "-o", "full.json", "-c", "x = 1", cwd=folder)
    assert "No space left" in done.stderr and done.returncode == 2
    done = gradscope("run", "-q", "-o", "full.json", "-c", "exit(5)", cwd=folder)
    assert "No space left" in done.stderr and done.returncode == 5


def test_a_recording_for_which_there_is_no_room_is_said_in_one_line_and_the_program_runs(folder: Path):
    done = run_command(
        [GRADSCOPE, "run", "-q", "-o", "run.gradscope", "-c", "print(1)"],
        cwd=folder,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 1500)),
    )
    assert (done.returncode, done.stdout) == (2, "1\n")
    assert done.stderr.startswith("gradscope: cannot write the recording")
    assert done.stderr.endswith("; the program runs without it\n") and done.stderr.count("\n") == 1
    assert not [path for path in folder.iterdir() if "gradscope" in path.name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.py"], "no such file: nothing.py"),
        (["detahc"], "did you mean detach?"),
        (["-o", "x.txxt", "train.py"], "x.txxt"),
        (["-o", "no/such.json", "train.py"], "no folder"),
        (["-o", "-", "train.py"], "-f json"),
        (["--line", "5-2", "train.py"], "--line '5-2'"),
        (["--rank", "x", "train.py"], "--rank: 'x'"),
        (["no.ipynb"], "no.ipynb is no notebook"),
        (["--watch", "a b", "-o", "kept.json", "train.py"], "--watch 'a b'"),
        (["-c", "-m", "x"], "cannot be used together"),
        (["-m", "no.such"], "no module named no"),
        ([], "Missing argument"),
        (["--nothing", "x"], "No such option"),
    ],
)
def test_wrong_use_is_one_message_and_2_and_nothing_is_run_or_written(folder: Path, arguments, message: str):
    (folder / "kept.json").write_text("kept")
    (folder / "no.ipynb").write_text("def f(:")
    done = gradscope("run", *arguments, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert (folder / "kept.json").read_text() == "kept"


def test_a_line_that_no_file_has_is_wrong_use_and_one_without_calls_is_not(folder: Path):
    (folder / "short.py").write_text("import torch\nprint(torch.ones(1).item())\n\n")
    for line, code, said in (("1", 0, ""), ("900", 2, "gradscope: --line 900: no file")):
        done = gradscope("run", "--line", line, "-o", "run.gradscope", "short.py", cwd=folder)
        assert (done.returncode, done.stdout.startswith("1.0\n")) == (code, True)
        again = gradscope("report", "--line", line, "run.gradscope", cwd=folder)
        assert again.returncode == code
        assert all(one.stderr.startswith(said) for one in (done, again)), done.stderr


def test_what_python_would_not_run_ends_as_under_python(folder: Path):
    (folder / "latin.py").write_bytes(b"x = '\xe9'\n")
    for arguments, message in (
        (["-c", "x = "], '  File "<string>", line 1\n    x = \n'),
        (["latin.py"], "gradscope: latin.py"),
    ):
        done = gradscope("run", "-o", "run.gradscope", *arguments, cwd=folder)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(message)
    assert not (folder / "run.gradscope").exists()


def test_an_empty_program_says_so(tmp_path: Path):
    (tmp_path / "empty.py").write_text("\n")
    done = gradscope("run", "empty.py", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "gradscope: empty.py is empty: there is nothing to run\n")


def test_what_a_user_wrote_is_shown_and_not_obeyed(tmp_path: Path):
    (tmp_path / "bad.py").write_text("x = '[red]'\nprint(\x1b[31m)\n")
    done = gradscope("run", "bad.py", cwd=tmp_path)
    assert "\x1b" not in done.stderr
    assert "\\x1b[31m" in done.stderr


def test_without_torch_a_program_that_wants_it_fails_as_under_python(tmp_path: Path):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    done = gradscope("run", "-c", "import torch", cwd=tmp_path)
    assert done.returncode == 1
    assert "ModuleNotFoundError: No module named 'torch'" in done.stderr


def test_a_fault_of_our_own_is_3_and_hides_nothing(folder: Path):
    source = (
        "import gradscope.report.run.run_screen as c\nc.render = None\n"
        "import gradscope.report.run.table_format as t\nt.render = None"
    )
    done = gradscope("run", "-c", source, cwd=folder)
    assert done.returncode == 3
    assert "a fault of its own: TypeError" in done.stderr
    done = gradscope("run", "-c", source + "\nexit(6)", cwd=folder)
    assert done.returncode == 6


def test_without_memory_no_bytes_are_shown(folder: Path):
    shown = gradscope("run", "--no-memory", "detach", cwd=folder).stdout
    assert "tensor memory" not in shown and "bytes" not in shown.partition("Lines")[2].partition("Shared")[0]


COLLECTED = """
import gc
print(gc.isenabled(), gc.get_threshold(), gc.get_freeze_count())

class Cycle:
    def __init__(self):
        self.itself = self

    def __del__(self):
        print("freed", gc.isenabled())

Cycle()
"""


@pytest.mark.parametrize("end", ["", "gc.disable()", "import os\ngc.disable()\nif os.fork():\n    os.wait()"])
def test_a_program_has_the_garbage_collector_that_python_would_give_it_to_its_end(tmp_path, end):
    (tmp_path / "program.py").write_text(COLLECTED + end)
    plain = run_command([sys.executable, "program.py"], cwd=tmp_path, check=True)
    assert plain.stdout.startswith("True")
    shown = gradscope("run", "program.py", cwd=tmp_path).stdout  # the tables come before the interpreter's end
    assert [line for line in shown.splitlines() if line in plain.stdout.splitlines()] == plain.stdout.splitlines()
    assert gradscope("run", "-q", "program.py", cwd=tmp_path).stdout == plain.stdout
    (tmp_path / "checked.py").write_text("import gc, torch\nx = torch.ones(1)  # expect: gc.isenabled()\n")
    assert gradscope("check", "checked.py", cwd=tmp_path).returncode == 0


def test_every_value_is_looked_at_where_that_is_asked_for(tmp_path: Path):
    (tmp_path / "late.py").write_text(
        textwrap.dedent("""
        import torch
        w = torch.nn.Parameter(torch.ones(2))
        optimizer = torch.optim.SGD([w], lr=0.1)
        for step in range(8):
            optimizer.zero_grad()
            part = w - (w.detach() if step == 5 else 3)
            torch.where(part != 0, 1 / part, part).sum().backward()
            optimizer.step()
        """)
    )
    for options, lines in (([], []), (["--nan"], [8])):
        done = gradscope("run", "-f", "json", *options, "late.py", cwd=tmp_path)
        (answer,) = (one for one in json.loads(done.stdout)["answers"] if one["code"] == "gradient-not-finite")
        assert [cause["line"] for cause in answer["causes"]] == lines


def test_sizes_of_gradients_are_shown_of_a_recording_too(folder: Path):
    gradscope("run", "-q", "-o", "run.gradscope", "train.py", cwd=folder)
    done = gradscope("report", "run.gradscope", "--gradients", "--summary", cwd=folder)
    assert "Sizes of gradients (1 of 1 backward pass looked at)" in done.stdout
    data = json.loads(gradscope("report", "run.gradscope", "--gradients", "-f", "json", cwd=folder).stdout)
    assert [(row["name"], row["sizes"]) for row in data["gradient_norms"]] == [("w", [4.24264])]
