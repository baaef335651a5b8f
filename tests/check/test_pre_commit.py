"""The hooks for pre-commit: the manifest has what it must have, and what it runs takes the files that changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import gradscope

MANIFEST = Path(__file__).parents[2] / ".pre-commit-hooks.yaml"
EXPECTING = "import torch\nw = torch.ones(2, requires_grad=True)\nh = w.detach()  # expect: h.requires_grad is {}\n"
PROBLEM = "import torch\nw = torch.ones(2, requires_grad=True)\nh = w * 2\nh.sum().backward()\nh.grad\n"


def hooks() -> dict[str, dict[str, str]]:
    """The keys of each hook, by its id: a list of flat mappings is all that the manifest is."""
    found: list[dict[str, str]] = []
    for line in MANIFEST.read_text(encoding="utf-8").splitlines():
        if line.startswith("- "):
            found.append({})
        if not line.startswith("#"):
            key, _, value = line[2:].partition(": ")
            found[-1][key] = value.partition("  #")[0]
    return {hook["id"]: hook for hook in found}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, source in {
        "holds.py": EXPECTING.format(False),
        "fails.py": EXPECTING.format(True),
        "none.py": "raise SystemExit('this was run')\n",
        "old.py": "print 'this is no Python'\n",
        "problem.py": PROBLEM,
    }.items():
        (tmp_path / name).write_text(source)
    return tmp_path


def test_the_manifest_names_what_each_hook_needs():
    assert set(hooks()) == {"gradscope-check", "gradscope-programs"}
    for hook in hooks().values():
        assert hook["language"] == "system" and hook["types"] == "[python]" and hook["name"] and hook["description"]


@pytest.mark.parametrize(
    ("files", "code"),
    [(["holds.py", "none.py", "old.py"], 0), (["fails.py", "none.py"], 1), (["none.py", "old.py"], 0)],
)
def test_files_without_expectations_are_passed_over(folder: Path, files: list[str], code: int):
    _, *arguments = hooks()["gradscope-check"]["entry"].split()
    done = gradscope(*arguments, *files, cwd=folder)
    assert done.returncode == code and "this was run" not in done.stdout + done.stderr
    assert ("nothing was run" in done.stderr) == (files == ["none.py", "old.py"])


def test_programs_with_a_problem_fail(folder: Path):
    _, *arguments = hooks()["gradscope-programs"]["entry"].split()
    assert gradscope(*arguments, "problem.py", cwd=folder).returncode == 1
    assert gradscope(*arguments, "holds.py", cwd=folder).returncode == 0
