"""``check`` and ``eval`` as a shell script uses them: exit codes, pipes, files, colour."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.processes import run as run_command

GOOD = "import torch\nprint('noise')\na = torch.ones(2, requires_grad=True)  # expect: a.requires_grad\n"
BAD = "a = 1  # expect: a == 2\n"
VALUES = """
import sys
print("noise")
print("warning", file=sys.stderr)
number, text, nan = 3, "two\\nlines", float("nan")
pair = {"a": (1, None), "nan": nan}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shell")
    programs = {"good": GOOD, "bad": BAD, "values": VALUES, "none": "a = 1\n", "raises": "1 / 0\n"}
    for name, source in programs.items():
        (path / f"{name}.py").write_text(source)
    return path


def shell(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a bash script with ``gradscope`` on its path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    names = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    return run_command(
        ["bash", "-uo", "pipefail", "-c", script],
        cwd=folder,
        env={**names, "PATH": path, **environment},
    )


class TestCheck:
    def test_all_hold(self, folder: Path) -> None:
        done = shell("gradscope check good.py", folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("ok     good.py  1 expectation held\n1 target: ")

    def test_something_does_not_hold(self, folder: Path) -> None:
        done = shell("gradscope check bad.py -f json -o r.xml -o r.txt -o r.json | tee piped.json", folder)
        assert (done.returncode, done.stderr) == (1, "")
        assert done.stdout == (folder / "r.json").read_text()
        assert json.loads(done.stdout)["outcome"] == "failed"
        assert ElementTree.parse(folder / "r.xml").getroot()[0].get("failures") == "1"
        assert "bad.py:1  does not hold\n    a == 2\n      a  1\n" in (folder / "r.txt").read_text()

    def test_an_option_decides_too(self, folder: Path) -> None:
        script = (
            "gradscope check -q good.py none.py -e 'a is not None'; echo $?; gradscope check -q none.py -e 'a == 2'"
        )
        done = shell(script, folder)
        assert (done.stdout, done.stderr, done.returncode) == ("0\n", "", 1)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ("", "Missing argument"),
            ("nosuch.py", "no such file: nosuch.py"),
            ("none.py", "none.py has no expectation"),
            ("none.py -e 'a ='", "-e 'a =' is no Python expression"),
            ("good.py -o report.pdf", "cannot tell a format from report.pdf"),
            ("good.py -o nosuch/report.xml", "there is no folder nosuch"),
            ("-c -m good", "-c and -m cannot be used together"),
        ],
    )
    def test_wrong_use(self, arguments: str, said: str, folder: Path) -> None:
        done = shell(f"gradscope check {arguments}", folder)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr

    def test_colour_is_for_terminals(self, folder: Path) -> None:
        command = "gradscope check -c 'a = 1  # expect: a'"
        assert "\x1b" not in shell(command, folder).stdout
        assert "\x1b" in shell(f"{command} --color always", folder, NO_COLOR="1").stdout
        assert "\x1b" in shell(command, folder, FORCE_COLOR="1").stdout

    def test_a_reader_that_has_had_enough(self, folder: Path) -> None:
        done = shell("gradscope check . --printed | head -1", folder)
        assert done.stdout.count("\n") == 1
        assert done.stderr == ""

    def test_a_file_that_cannot_be_written_keeps_nothing_else_from_being_shown(self, folder: Path) -> None:
        (folder / "full.json").symlink_to("/dev/full")
        done = shell("gradscope check bad.py -o full.json -o r.txt", folder)
        assert done.returncode == 2
        assert "cannot write full.json: No space left on device" in done.stderr
        assert "bad.py:1  does not hold" in done.stdout
        assert "bad.py:1  does not hold" in (folder / "r.txt").read_text()

    def test_a_pipe_is_written_to_and_a_replaced_file_keeps_its_mode(self, folder: Path) -> None:
        (folder / "kept.json").touch(0o640)
        done = shell("mkfifo p.json; cat p.json & gradscope check -q good.py -o p.json -o kept.json; wait", folder)
        assert json.loads(done.stdout)["outcome"] == "passed"
        assert (folder / "p.json").is_fifo()
        assert stat.S_IMODE((folder / "kept.json").stat().st_mode) == 0o640

    def test_help_documents_the_functions(self, folder: Path) -> None:
        done = shell("gradscope check --help", folder)
        assert done.returncode == 0
        assert "saved_bytes(y)" in done.stdout and "shares_version(a, b)" in done.stdout


@pytest.mark.parametrize(
    "command", ["check bad.py", "check -f json good.py", "eval none.py a", "run none.py", "run -f json none.py", "list"]
)
def test_a_full_disk_is_no_fault_of_ours(command: str, folder: Path) -> None:
    done = shell(f"gradscope {command} > /dev/full", folder)
    assert done.returncode == 2
    assert done.stderr.startswith("gradscope: cannot write") and "No space left on device" in done.stderr
    assert "report" not in done.stderr and "Exception ignored" not in done.stderr


class TestEval:
    def test_a_value_on_a_line_and_nothing_else(self, folder: Path) -> None:
        done = shell('x=$(gradscope eval values.py number text pair); echo "[$x]"', folder)
        assert done.stdout == "[3\ntwo\\nlines\n{'a': (1, None), 'nan': nan}]\n"
        assert done.stderr == "noise\nwarning\n"

    def test_a_value_is_told_from_others(self, folder: Path) -> None:
        done = shell("""gradscope eval -c 'x = ["a  b"]; y = "a\\n"; z = "a\\\\n"' x y z""", folder)
        assert done.stdout == "['a  b']\na\\n\na\\\\n\n"

    def test_json(self, folder: Path) -> None:
        done = shell("gradscope eval -f json values.py number text pair object 2>/dev/null", folder)
        assert [json.loads(line) for line in done.stdout.splitlines()] == [
            3,
            "two\nlines",
            {"a": [1, None], "nan": {"$float": "nan"}},
            {"$repr": "<class 'object'>"},
        ]

    def test_tensors_and_the_functions_of_expectations(self, folder: Path) -> None:
        done = shell(
            "gradscope eval -f json good.py a a.shape a.dtype 'reaches((a * a).sum(), a)' 'grad_fn(a)'", folder
        )
        tensor = {"shape": [2], "dtype": "float32", "device": "cpu", "requires_grad": True, "values": [1.0, 1.0]}
        assert [json.loads(line) for line in done.stdout.splitlines()] == [
            {"$tensor": tensor},
            [2],
            "float32",
            True,
            None,
        ]

    def test_standard_input_code_and_modules(self, folder: Path) -> None:
        script = "echo a=1 | gradscope eval - a; gradscope eval -c a=2 a; gradscope eval -m none a"
        assert shell(script, folder).stdout == "1\n2\n1\n"

    @pytest.mark.parametrize(
        ("arguments", "code", "said"),
        [
            ("values.py number nosuch", 1, "nosuch raises NameError"),
            ("raises.py 1", 1, "ZeroDivisionError"),
            ("-c 'import sys; sys.exit(3)' 1", 1, "the program exited with status 3; no value was evaluated"),
            ("-c 'import os; os._exit(4)' 1", 1, "the program exited with status 4; no value was evaluated"),
            ("-c 'import os; os._exit(0)' nosuch", 1, "nosuch raises NameError"),
            ("-c 'import os; os.kill(os.getpid(), 15)' 1", -15, "the program was ended by SIGTERM; no value"),
            ("values.py 'number +'", 2, "is no Python expression"),
            ("nosuch.py number", 2, "no such file"),
            ("values.py", 2, "Missing argument"),
        ],
    )
    def test_nothing_is_printed_where_something_failed(
        self, arguments: str, code: int, said: str, folder: Path
    ) -> None:
        done = shell(f"gradscope eval {arguments}", folder)
        assert (done.returncode, done.stdout) == (code, "")
        assert said in done.stderr
        assert "gradscope/" not in done.stderr

    def test_a_program_that_ends_well_by_exit(self, folder: Path) -> None:
        script = "gradscope eval -c 'import sys; sys.exit()' 1; gradscope eval -c 'import os; os._exit(0)' 2"
        assert shell(script, folder).stdout == "1\n2\n"

    def test_a_reader_that_has_had_enough(self, folder: Path) -> None:
        many = " ".join(["'\"x\" * 100000'"] * 20)
        done = shell(f"gradscope eval none.py {many} | head -c 1", folder)
        assert (done.stdout, done.stderr) == ("x", "")

    def test_a_closed_standard_output(self, folder: Path) -> None:
        assert shell("gradscope eval none.py a >&-", folder).returncode == 0
