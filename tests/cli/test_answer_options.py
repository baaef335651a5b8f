"""``--select``, ``--ignore``, ``--baseline``, ``--fail-on`` and ``[tool.gradscope]``: what is shown, and exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gradscope.cli.app import run_command_line
from gradscope.cli.options.completion import complete_codes, complete_grounds
from gradscope.cli.options.project_settings import project_settings
from gradscope.cli.root import Commands
from gradscope.errors import UsageError
from gradscope.recording.file.store import save
from tests.analysis.building import recorded
from tests.cli.command import gradscope

LOST = """
    import torch
    w = torch.ones(2, requires_grad=True)
    scale = torch.ones(2, requires_grad=True)
    hidden = (w * 2).detach()
    (hidden * scale).sum().backward()
    print(w.grad)
"""
CODE = "grad-none-unreached"
"""The one answer to that program, a problem."""


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "run.gradscope"
    save(recorded(LOST), path)
    return path


@pytest.fixture
def report(recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """What ``gradscope report`` on the recording exits with and prints, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*options: str) -> tuple[int, str]:
        code = run_command_line(["report", str(recording), "--summary", *options], ())
        return code, capsys.readouterr().out

    return call


def test_codes_on_the_command_line(report):
    assert CODE in report()[1]
    assert "not shown: 1 by select or ignore" in report("--ignore", f"frozen,{CODE}")[1]
    assert CODE in report("--select", "frozen", "--select", CODE)[1]
    assert CODE not in report("--select", "frozen")[1]


@pytest.mark.parametrize(
    ("option", "value", "hint"),
    [
        ("--select", "grad-none-unreach", "grad-none-unreached"),
        ("--ignore", "forzen", "did you mean frozen"),
        ("--fail-on", "problms", "did you mean problem?"),
        ("--baseline", "none.json", "--write-baseline none.json"),
        ("--write-baseline", "no/folder.json", "create the folder"),
    ],
)
def test_what_cannot_be_understood_is_wrong_use(report, option: str, value: str, hint: str):
    with pytest.raises(UsageError) as raised:
        report(option, value)
    assert hint in raised.value.hint and raised.value.exit_code == 2


@pytest.mark.parametrize(("grounds", "code"), [("problem", 1), ("warning", 1), (CODE, 1), ("frozen", 0), ("never", 0)])
def test_it_fails_on_what_was_asked_for(report, grounds: str, code: int):
    assert report()[0] == 0
    assert report("--fail-on", grounds)[0] == code
    assert report("--fail-on", grounds, "--ignore", CODE)[0] == 0


def test_a_baseline_accepts_what_there_is_and_nothing_else(report, tmp_path: Path, capsys):
    code, shown = report("--write-baseline", "known.json", "--fail-on", "problem")
    assert code == 0 and CODE in shown
    (found,) = json.loads((tmp_path / "known.json").read_text())["findings"]
    assert found == {
        "code": CODE,
        "file": "snippet.py",
        "function": "<module>",
        "source": "hidden = (w * 2).detach()",
        "count": 1,
    }
    code, shown = report("--baseline", "known.json", "--fail-on", "problem")
    assert code == 0 and "not shown: 1 of the baseline" in shown
    code, shown = report("--baseline", "known.json", "-f", "json")
    assert [(one["by"], one["answer"]["code"]) for one in json.loads(shown)["suppressed"]] == [("baseline", CODE)]
    report("--baseline", "known.json", "--write-baseline", "known.json")
    assert len(json.loads((tmp_path / "known.json").read_text())["findings"]) == 1


def write_settings(folder: Path, *lines: str) -> None:
    (folder / "pyproject.toml").write_text("\n".join(["[tool.gradscope]", *lines]))


def test_a_project_says_what_it_wants_and_the_command_line_wins(report, tmp_path: Path):
    write_settings(tmp_path, f'ignore = ["{CODE}"]', 'fail-on = "warning"', "width = 60")
    code, shown = report()
    assert code == 0 and CODE not in shown and max(map(len, shown.split("\n"))) <= 60
    code, shown = report("--ignore", "frozen", "--width", "200")
    assert code == 1 and CODE in shown and max(map(len, shown.split("\n"))) > 60
    assert report("--ignore", "frozen", "--fail-on", "never")[0] == 0


@pytest.mark.parametrize("command", ["why", "fix"])
def test_questions_ask_the_project_for_width_and_colour(tmp_path: Path, command: str):
    (tmp_path / "train.py").write_text("\n".join(line.strip() for line in LOST.split("\n")))
    write_settings(tmp_path, "width = 60", 'color = "always"')
    coloured = gradscope(command, "train.py", cwd=tmp_path).stdout
    plain = gradscope(command, "train.py", "--color", "never", "--width", "120", cwd=tmp_path).stdout
    assert "\x1b[" in coloured and "\x1b[" not in plain
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in coloured.split("\n")) <= 60
    assert max(map(len, plain.split("\n"))) > 60


def test_a_baseline_of_a_project_is_beside_its_file_and_need_not_be_there_to_be_written(report, tmp_path: Path):
    write_settings(tmp_path, 'baseline = "known.json"', 'fail-on = ["problem"]')
    with pytest.raises(UsageError, match="there is no baseline"):
        report()
    assert report("--write-baseline", "known.json")[0] == 0
    assert report()[0] == 0


def test_the_nearest_file_with_the_section_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    project, below = tmp_path / "project", tmp_path / "project" / "src" / "deep"
    below.mkdir(parents=True)
    (below / "train.py").write_text("")
    write_settings(project, 'select = ["frozen"]')
    (project / "src" / "pyproject.toml").write_text('[project]\ndependencies = ["gradscope"]\n')
    monkeypatch.chdir(tmp_path)
    assert project_settings(str(below / "train.py")).codes("select", None)[0] == ["frozen"]
    assert project_settings("train.py").codes("select", None)[0] == []
    monkeypatch.chdir(below)
    assert project_settings("-c").codes("select", None)[0] == ["frozen"]
    write_settings(project / "src", "select = []")
    assert project_settings().codes("select", None)[0] == []


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("igore = []", "[tool.gradscope] has an unknown key 'igore'", "did you mean ignore?"),
        ("other = 1", "[tool.gradscope] has an unknown key 'other'", "select, ignore"),
        ("width = 10", "width = 10 in [tool.gradscope] is not a whole number, 40 or more", ""),
        ("max-ops = true", "max-ops = True in [tool.gradscope] is not a whole number", ""),
        ("color = 'red'", '"auto", "always" or "never"', ""),
        ("ignore = [1]", "ignore = [1] in [tool.gradscope] is not a list of codes", ""),
        ("ignore = [", "is no TOML", ""),
        (
            "ignore = ['forzen']",
            "pyproject.toml: ignore: there is no diagnosis 'forzen'",
            "did you mean frozen",
        ),
    ],
)
def test_what_is_wrong_in_the_section_is_said(report, tmp_path: Path, line: str, message: str, hint: str):
    write_settings(tmp_path, line)
    with pytest.raises(UsageError) as raised:
        report()
    assert message in raised.value.message and hint in raised.value.hint


def test_the_exit_code_of_a_run(tmp_path: Path):
    (tmp_path / "train.py").write_text("\n".join(line.strip() for line in LOST.split("\n")))
    assert gradscope("run", "train.py", cwd=tmp_path).returncode == 0
    assert gradscope("run", "-q", "--fail-on", "problem", "train.py", cwd=tmp_path).returncode == 1
    write_settings(tmp_path, 'fail-on = "problem"')
    assert gradscope("run", "-q", "train.py", cwd=tmp_path).returncode == 1
    with (tmp_path / "train.py").open("a") as stream:
        stream.write("\nraise SystemExit(4)\n")
    assert gradscope("run", "-q", "train.py", cwd=tmp_path).returncode == 4
    done = gradscope("run", "--select", "forzen", "train.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gradscope: --select: there is no diagnosis 'forzen'\n  did you mean frozen or left-frozen?\n"


def test_run_and_report_have_the_same_options_for_answers():
    for option in ("--select", "--ignore", "--baseline", "--write-baseline", "--fail-on", "--all-answers"):
        for command in ("run", "report"):
            assert any(option in parameter.opts for parameter in Commands()[command].params)


def test_the_shell_completes_the_last_code_of_several():
    assert [text for text, _ in complete_codes("frozen,grad-none-unr")] == ["frozen,grad-none-unreached"]
    assert [text for text, _ in complete_grounds("warn")] == ["warning"]
