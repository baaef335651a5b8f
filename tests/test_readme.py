"""README and pages show real output: each block behind a ``<!-- output: COMMAND -->`` mark is what the command prints.

The commands of its other ``sh`` blocks are run in a folder of their own, with the files that they name.

``UPDATE_README=1 pytest tests/test_readme.py`` writes the blocks anew.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gradscope.cli.options.help_pages import pages_by_topic
from gradscope.cli.options.project_settings import KEYS, project_settings
from tests.processes import run
from tests.versions import shows_words_of_torch

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *(page for page in pages_by_topic().values() if page.stem != "diagnoses")]
"""What people read; the page of diagnoses has a test of its own."""
BLOCK = re.compile(r"<!-- output: (?P<command>.+?) -->\n\n```(?P<kind>\w+)\n(?P<text>.*?)```\n", re.DOTALL)
TORCH = re.compile(r"torch \d[\w.+]*")
"""The version at the end of a comparison, which is not what the README is about."""
SHELL = re.compile(r"```sh\n(.*?)```\n", re.DOTALL)
WORKFLOW, STEP = re.compile(r"```yaml\n(.*?)```\n", re.DOTALL), re.compile(r"^- run: (.*)$", re.MULTILINE)
SETTINGS = re.compile(r"```toml\n(.*?)```\n", re.DOTALL)
LEFT_OUT = {"pip": "it would install into the environment that the tests run in; tests/cli/test_wheel.py installs"}
"""Programs of commands that are not run, and why. What follows them on their line is run by an output block, or is this
suite."""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


COMMANDS = [(page, match["command"]) for page in PAGES for match in BLOCK.finditer(text_of(page))]


TRAIN = """
import argparse
import torch

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=1)
weight = torch.ones(2, requires_grad=True)

def doubled(tensor):
    '''
    >>> doubled(weight)
    tensor([2., 2.], grad_fn=<MulBackward0>)
    '''
    return tensor * 2


# %% train
for _ in range(parser.parse_args().epochs):
    (weight * weight).sum().backward()

# %% evaluate
with torch.no_grad():
    print(weight.sum())
"""
NOTES = """
Some notes:

>>> import torch
>>> torch.ones(2, requires_grad=True).detach()
tensor([1., 1.])
"""
NOTEBOOK = {
    "nbformat": 4,
    "metadata": {},
    "cells": [
        {"cell_type": "code", "source": source, "metadata": {}} for source in ("import torch", "torch.ones(2) * 2")
    ],
}


def blocks_of_commands() -> list[list[str]]:
    """The commands of each ``sh`` block that is not the output of another command, and the steps of each workflow."""
    text = "".join(BLOCK.sub("", text_of(page)) for page in PAGES)
    blocks = [[line for line in block.splitlines() if line] for block in SHELL.findall(text)]
    blocks += [STEP.findall(block) for block in WORKFLOW.findall(text)]
    kept = [[command for command in block if command.split()[0] not in LEFT_OUT] for block in blocks]
    return [block for block in kept if block]


def scripts_path() -> str:
    """Where commands are found: those of this environment first."""
    return str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]


def run_command(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command with ``gradscope`` from this environment; standard error goes with standard output."""
    environment = {
        **os.environ,
        "PATH": scripts_path(),
        "COLUMNS": "100",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
    }
    for name in ("FORCE_COLOR", "NO_COLOR", "TERM", "GITHUB_ACTIONS"):
        environment.pop(name, None)
    return run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def output_of(command: str) -> str:
    """What a command of the README prints, standard error included."""
    done = run_command(command, ROOT)
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n"


@shows_words_of_torch
@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=lambda part: part.stem if isinstance(part, Path) else part)
def test_a_page_shows_what_the_command_prints(page: Path, command: str) -> None:
    if "freeze.sh" in command and shutil.which("jq") is None:
        pytest.skip("the example script needs jq")
    printed = output_of(command)
    text = text_of(page)
    if os.environ.get("UPDATE_README"):

        def renewed(match: re.Match[str]) -> str:
            if match["command"] != command:
                return match[0]
            return f"<!-- output: {command} -->\n\n```{match['kind']}\n{printed}```\n"

        page.write_text(BLOCK.sub(renewed, text), encoding="utf-8")
        return
    shown = next(match["text"] for match in BLOCK.finditer(text) if match["command"] == command)
    assert TORCH.sub("torch …", shown) == TORCH.sub("torch …", printed)


@pytest.mark.parametrize("commands", blocks_of_commands(), ids=lambda commands: commands[0])
def test_each_command_of_a_page_does_what_it_says(commands: list[str], tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "train.py").write_text(TRAIN)
    (tmp_path / "notes.md").write_text(NOTES)
    (tmp_path / "notebook.ipynb").write_text(json.dumps(NOTEBOOK))
    missing = [command for command in commands if shutil.which(command.split()[0], path=scripts_path()) is None]
    for command in commands:
        if command not in missing:
            done = run_command(command, tmp_path)
            assert done.returncode == 0, f"{command}\n{done.stdout}"
            assert "-q" in command or done.stdout
    if missing:
        pytest.skip(f"not installed here: {', '.join(command.split()[0] for command in missing)}")


def test_no_command_of_a_page_is_overlooked() -> None:
    commands = [command for block in blocks_of_commands() for command in block]
    assert {command.split()[0] for command in commands} == {"gradscope", "sqlite3"}
    text = "".join(BLOCK.sub("", text_of(page)) for page in PAGES)
    left_out = [line for block in SHELL.findall(text) for line in block.splitlines()]
    assert [line for line in left_out if line not in commands] == [
        "pip install . && gradscope compare",
        "pip install -e '.[test]' && pytest -n auto",
    ]


def test_the_settings_of_the_pages_are_all_there_are(tmp_path: Path) -> None:
    (settings,) = SETTINGS.findall("".join(map(text_of, PAGES)))
    (tmp_path / "pyproject.toml").write_text(settings)
    (tmp_path / "train.py").write_text("")
    found = project_settings(str(tmp_path / "train.py"))
    assert found.codes("fail-on", None)[0] == ["problem", "leaf-unreached"]
    assert {line.partition(" ")[0] for line in settings.splitlines()[1:]} == set(KEYS)


def test_the_readme_is_short_and_leads_to_each_page() -> None:
    text = text_of(README)
    assert any("compare" in command for page, command in COMMANDS if page == README)
    assert any(" run " in command for page, command in COMMANDS if page == README)
    assert "<!-- tests -->" in text
    assert len(text.partition("## Reference")[0].split()) <= 1_200
    assert sorted(re.findall(r"\(gradscope/docs/(\w+)\.md\) \|", text)) == sorted(pages_by_topic())
