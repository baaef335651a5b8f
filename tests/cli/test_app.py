"""Help, version, list, show, completion; and what is not imported for them."""

from __future__ import annotations

import json
import os
import pty
import sys
from pathlib import Path

import pytest

import gradscope as package
from gradscope.cli.options.help_pages import pages_by_topic
from gradscope.cli.root import COMMANDS, Commands
from tests.cli.command import GRADSCOPE, gradscope
from tests.processes import run as run_command
from tests.processes import started

ROOT = Path(package.__file__ or "").parents[1]


def test_the_command_alone_shows_help(tmp_path: Path):
    done = gradscope(cwd=tmp_path)
    assert done.returncode == 0
    for word in ("run", "list", "show", "Exit codes", "Examples"):
        assert word in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_says_of_each_command_what_its_own_help_says(name: str):
    assert Commands()[name].get_short_help_str(200) == COMMANDS[name]


def test_a_mistyped_command_is_guessed(tmp_path: Path):
    assert "Did you mean 'run'?" in gradscope("rnu", cwd=tmp_path).stderr


def test_version(tmp_path: Path):
    assert gradscope("--version", cwd=tmp_path).stdout == f"gradscope {package.__version__}\n"


def test_an_unknown_command_is_wrong_use(tmp_path: Path):
    done = gradscope("rnu", cwd=tmp_path)
    assert done.returncode == 2
    assert "No such command" in done.stderr


def test_list_is_a_line_a_scenario_in_a_pipe_and_json_on_request(tmp_path: Path):
    lines = gradscope("list", cwd=tmp_path).stdout.splitlines()
    rows = json.loads(gradscope("list", "--format", "json", cwd=tmp_path).stdout)
    assert [line.split("\t")[0] for line in lines] == [row["name"] for row in rows]
    assert {"name", "title", "tags", "path"} == rows[0].keys()
    tagged = gradscope("list", "--tag", rows[0]["tags"][0], cwd=tmp_path).stdout
    assert rows[0]["name"] in tagged and len(tagged.splitlines()) < len(lines)
    assert "no scenario has this tag" in gradscope("list", "--tag", "nothing", cwd=tmp_path).stderr


def test_show_gives_the_source_as_it_is(tmp_path: Path):
    shown = gradscope("show", "detach", cwd=tmp_path).stdout
    assert shown == (ROOT / "scenarios" / "detach.py").read_text()
    done = gradscope("show", "detahc", cwd=tmp_path)
    assert (done.returncode, "did you mean detach?" in done.stderr) == (2, True)


def on_a_terminal(*arguments: str, cwd: Path) -> str:
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
    with started([GRADSCOPE, *arguments], cwd=cwd, stdout=follower, stderr=follower, env=environment):
        os.close(follower)
        output = b""
        while True:
            try:
                chunk = os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            output += chunk
    os.close(leader)
    return output.decode()


def test_on_a_terminal_source_is_highlighted_and_escape_sequences_are_text(tmp_path: Path):
    (tmp_path / "hostile.py").write_text("import os\nx = 1  # [bold]\x1b]0;title\x07\n")
    shown = on_a_terminal("show", "hostile.py", cwd=tmp_path)
    assert "\x1b[" in shown
    assert "\x1b]0" not in shown and "\\x1b]0;title" in shown
    assert "[bold]" in shown
    assert "detach" in on_a_terminal("list", cwd=tmp_path)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["list"], ["show", "detach"], ["--version"], []])
def test_no_torch_is_imported(tmp_path: Path, arguments: list[str]):
    source = (
        f"import sys; sys.argv[1:] = {arguments!r}; from gradscope.__main__ import main; main(); "
        "heavy = [name for name in ('torch', 'numpy', 'sqlite3', 'networkx', 'pydantic') if name in sys.modules]; "
        "print('heavy:', heavy, file=sys.stderr)"
    )
    done = run_command([sys.executable, "-c", source], cwd=tmp_path)
    assert done.stderr == "heavy: []\n"


def test_a_program_without_torch_is_run_without_torch(tmp_path: Path):
    source = "import sys; print('torch' in sys.modules)"
    assert gradscope("run", "-q", "-c", source, cwd=tmp_path).stdout == "False\n"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("run deta", ["detach"]),
        ("run de", ["detach", "demo.py"]),
        ("report ", ["kept.gradscope"]),
        ("report sub/", ["sub/other.gradscope"]),
        ("compare k", ["kept.gradscope"]),
        ("compare demo.py --only plain,no", [r"plain,no\ grad"]),
        ("compare demo.py --baseline p", ["plain"]),
        ("compare --only .d", [".data"]),
        ("compare --group st", ["storage"]),
        ("list --tag mem", ["memory"]),
        ("explain grad-none-non", ["grad-none-non-leaf"]),
    ],
)
def test_the_shell_completes(tmp_path: Path, typed: str, offered: list[str]):
    (tmp_path / "demo.py").write_text("# %% no grad\n# %% plain\n")
    (tmp_path / "sub").mkdir()
    for name in ("kept.gradscope", "sub/other.gradscope", "notes.txt"):
        (tmp_path / name).touch()
    position = str(typed.count(" ") + 1)
    words = {"COMP_WORDS": f"gradscope {typed}", "COMP_CWORD": position}
    done = gradscope(cwd=tmp_path, _GRADSCOPE_COMPLETE="complete_bash", **words)
    assert (done.stdout.splitlines(), done.stderr) == (offered, "")


def test_zsh_and_fish_complete_cells_of_a_file_and_import_no_torch(tmp_path: Path):
    (tmp_path / "demo.py").write_text("# %% no grad\n# %% plain\n")
    typed = {"_TYPER_COMPLETE_ARGS": "gradscope run demo.py::", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')\n")
    done = gradscope(cwd=tmp_path, _GRADSCOPE_COMPLETE="complete_fish", _TYPER_COMPLETE_FISH_ACTION="get-args", **typed)
    assert done.stdout.splitlines() == ["demo.py::no grad", "demo.py::plain"]
    assert "demo.py" in gradscope(cwd=tmp_path, _GRADSCOPE_COMPLETE="complete_zsh", **typed).stdout


def test_help_shows_the_pages(tmp_path: Path):
    topics = [line.split("\t")[0] for line in gradscope("help", cwd=tmp_path).stdout.splitlines()]
    assert topics == list(pages_by_topic())
    assert gradscope("help", "limits", cwd=tmp_path).stdout == pages_by_topic()["limits"].read_text(encoding="utf-8")
    for wrong, hint in (("limts", "did you mean 'limits'?"), ("eval", "gradscope eval --help")):
        refused = gradscope("help", wrong, cwd=tmp_path)
        assert refused.returncode == 2
        assert hint in refused.stderr
