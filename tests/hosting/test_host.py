"""A program runs as it does under python: output, errors and exit code, compared with plain python."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from pathlib import Path

import pytest

from tests.hosting.host_programs import BESIDE, PLAIN, WITH_TORCH
from tests.processes import run as run_command

ADDRESS = re.compile(r"0x[0-9a-f]+")
RUN = [str(Path(sys.executable).parent / "gradscope"), "run", "--quiet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("programs")
    for name, source in {**PLAIN, **WITH_TORCH}.items():
        encoding = "latin-1" if "coding: latin-1" in source else "utf-8"
        (path / f"p_{name}.py").write_text(textwrap.dedent(source).lstrip("\n"), encoding=encoding)
    for name, source in BESIDE.items():
        (path / name).parent.mkdir(exist_ok=True, parents=True)
        (path / name).write_text(source)
    return path


def outcome(command: list[str], folder: Path, stdin: str = "some input") -> dict[str, object]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = run_command(command, cwd=folder, env=environment, input=stdin)
    return {
        "code": done.returncode,
        "stdout": ADDRESS.sub("0x…", done.stdout),
        "stderr": ADDRESS.sub("0x…", done.stderr),
    }


def assert_same(arguments: list[str], folder: Path, stdin: str = "some input") -> dict[str, object]:
    plain = outcome([sys.executable, *arguments], folder, stdin)
    observed = outcome([*RUN, *arguments], folder, stdin)
    assert observed["code"] == plain["code"]
    assert observed["stderr"] == plain["stderr"]
    assert observed["stdout"] == plain["stdout"]
    return plain


@pytest.mark.parametrize("name", [*PLAIN, *WITH_TORCH])
def test_a_script_runs_as_under_python(name: str, folder: Path) -> None:
    if name in ("exit_huge", "exit_object_that_raises") and sys.version_info >= (3, 13):
        pytest.skip("Python 3.13 leaves the error of the exit code set and stumbles over it wherever it goes on")
    assert_same([f"p_{name}.py", "one", "--two", "-q", "--", "three"], folder)


@pytest.mark.parametrize(
    "arguments",
    [
        ["./p_arguments.py"],
        ["package/../p_arguments.py", "x"],
        ["-m", "package", "--x"],
        ["-m", "package.part", "-c", "y"],
        ["-m", "p_arguments", "y"],
        ["folder", "x"],
        ["-c", PLAIN["arguments"], "-x", "--ops"],
        ["-c", "import beside; print(__name__, list(globals())); def_ = 1/0"],
        ["-c", "class A: pass\nimport pickle; print(pickle.dumps(A))"],
        ["-m", "traceback_user"],
    ],
    ids=" ".join,
)
def test_other_ways_to_start_run_as_under_python(arguments: list[str], folder: Path) -> None:
    (folder / "traceback_user.py").write_text("import traceback\ntraceback.print_stack()\nraise ValueError('x')\n")
    assert_same(arguments, folder)


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nprint(sys.argv, sys.path[0], __file__, list(globals()))\nprint(sys.stdin.read())\n",
        "def f():\n    1 / 0\nprint('x')\nf()\n",
        "import sys\nsys.exit('from stdin')\n",
    ],
)
def test_standard_input_runs_as_under_python(source: str, folder: Path) -> None:
    assert_same(["-", "a", "-b"], folder, source)
