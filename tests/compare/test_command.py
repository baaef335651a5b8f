"""``gradscope compare`` as a shell sees it.

In forks that have torch imported: a new interpreter for each case would cost two seconds.
"""

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch  # noqa: F401 - imported before the forks

TWO = "import torch\nx = torch.ones(2, requires_grad=True)\n# %% a\ny = x * 2\n# %% b\ny = x.detach()\n"
SAME = TWO.replace("x.detach()", "x * 2")


def gradscope(
    arguments: Sequence[str], folder: Path, *, closes: bool = False, **environment: str
) -> tuple[int, str, str]:
    """Exit code, standard output and error of one call; with ``closes`` nobody reads its output."""
    out, err = folder / "out.txt", folder / "err.txt"
    pid = os.fork()
    if pid == 0:
        code = 99
        with contextlib.suppress(BaseException):
            os.chdir(folder)
            os.environ.update(environment)
            reading, writing = os.pipe()
            os.close(reading)
            file = writing if closes else os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
            sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            sys.argv = ["gradscope", *arguments]
            from gradscope.__main__ import main

            code = main()
            with contextlib.suppress(BrokenPipeError):
                sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), "" if closes else out.read_text(), err.read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "two.py").write_text(TWO)
    (tmp_path / "same.py").write_text(SAME)
    return tmp_path


def test_exit_codes(folder: Path) -> None:
    assert gradscope(["compare", "two.py"], folder)[0] == 0
    assert gradscope(["compare", "two.py", "--exit-code"], folder)[0] == 1
    code, out, _ = gradscope(["compare", "same.py", "--exit-code"], folder)
    assert (code, "Nothing differs." in out) == (0, True)
    for wrong in (
        ["two.py", "--timeout", "0"],
        ["two.py", "--timeout", "nan"],
        ["gone.py"],
        ["two.py", "--only", "c"],
        ["two.py", "--baseline", "c"],
        ["two.py", "-o", "x.exe"],
    ):
        code, out, err = gradscope(["compare", *wrong], folder)
        assert (code, out) == (2, "") and err.startswith("gradscope: ")


def test_cells_are_chosen_by_name(folder: Path) -> None:
    (folder / "many.py").write_text("import torch\n" + "".join(f"# %% {name}\n" for name in ("a", "b", "c, d", "e")))
    for only, chosen in {
        ("a,b",): ["a", "b"],
        ("a", "c, d"): ["a", "c, d"],
        ("e", "b,a"): ["a", "b", "e"],
    }.items():
        options = [part for name in only for part in ("--only", name)]
        code, out, _ = gradscope(["compare", "many.py", "-f", "json", *options], folder)
        assert (code, [variant["name"] for variant in json.loads(out)["variants"]]) == (0, chosen)


def test_data_on_standard_output_is_nothing_but_data(folder: Path) -> None:
    (folder / "two.py").write_text(TWO + "print('noise')\n")
    code, out, err = gradscope(["compare", "two.py", "-f", "json"], folder)
    assert (code, json.loads(out)["outcome"], err) == (0, "different", "")


def test_files(folder: Path) -> None:
    outputs = ["x.json", "x.jsonl", "x.ndjson", "x.csv", "x.md", "x.markdown", "x.svg", "x.txt"]
    arguments = [part for name in outputs for part in ("-o", name)]
    code, out, _ = gradscope(["compare", "two.py", "-q", *arguments], folder)
    assert (code, out) == (0, "")
    assert json.loads((folder / "x.json").read_text())["variants"][1]["name"] == "b"
    assert all((folder / name).stat().st_size for name in outputs)
    assert (folder / "x.svg").read_text().startswith("<svg")


def test_a_reader_that_has_had_enough(folder: Path) -> None:
    for arguments in ([], ["-f", "json"]):
        code, _, err = gradscope(["compare", "two.py", *arguments], folder, closes=True)
        assert (code, err) == (0, "")


def test_colour(folder: Path) -> None:
    assert "\x1b" not in gradscope(["compare", "two.py"], folder)[1]
    assert "\x1b" in gradscope(["compare", "two.py"], folder, FORCE_COLOR="1", TERM="xterm")[1]
    assert "\x1b[3" not in gradscope(["compare", "two.py"], folder, FORCE_COLOR="1", NO_COLOR="1", TERM="xterm")[1]
    assert "\x1b[3" in gradscope(["compare", "two.py", "--color", "always"], folder, TERM="xterm")[1]


def test_times_are_measured_without_the_recorder_and_make_no_difference(folder: Path) -> None:
    modes = "open('modes.txt', 'a').write(str(torch._C._len_torch_function_stack()))\n"
    (folder / "same.py").write_text(SAME.replace("# %% b\n", modes + "# %% b\n") + modes)
    code, out, _ = gradscope(["compare", "same.py", "--repeat", "3", "--exit-code", "-f", "json"], folder)
    rows = [row for group in json.loads(out)["groups"] if group["title"] == "time" for row in group["rows"]]
    assert code == 0
    recorded, timed = 2, 2 * 3 * 2  # a timed run is the second in its process
    assert sorted((folder / "modes.txt").read_text()) == ["0"] * timed + ["1"] * recorded
    assert [row["label"] for row in rows] == ["forward", "forward spread", "backward", "backward spread"]
    assert all(cell["value"] > 0 for cell in rows[0]["cells"])
    assert not any(row["differs"] for row in rows)
