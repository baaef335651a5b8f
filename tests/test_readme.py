"""The README shows real output: each block behind a ``<!-- output: COMMAND -->`` mark is what the command prints.

``UPDATE_README=1 pytest tests/test_readme.py`` writes the blocks anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.versions import shows_words_of_torch

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"<!-- output: (?P<command>.+?) -->\n\n```(?P<kind>\w+)\n(?P<text>.*?)```\n", re.DOTALL)
TORCH = re.compile(r"torch \d[\w.+]*")
"""The version at the end of a comparison, which is not what the README is about."""
COMMANDS = [match["command"] for match in BLOCK.finditer(README.read_text(encoding="utf-8"))]


def output_of(command: str) -> str:
    """What a command of the README prints, standard error included, with ``gradscope`` from this environment."""
    scripts = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": scripts + os.pathsep + os.environ["PATH"],
        "COLUMNS": "100",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
    }
    for name in ("FORCE_COLOR", "NO_COLOR", "TERM", "GITHUB_ACTIONS"):
        environment.pop(name, None)
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n"


@shows_words_of_torch
@pytest.mark.parametrize("command", COMMANDS)
def test_the_readme_shows_what_the_command_prints(command: str) -> None:
    if "freeze.sh" in command and shutil.which("jq") is None:
        pytest.skip("the example script needs jq")
    printed = output_of(command)
    text = README.read_text(encoding="utf-8")
    if os.environ.get("UPDATE_README"):

        def renewed(match: re.Match[str]) -> str:
            if match["command"] != command:
                return match[0]
            return f"<!-- output: {command} -->\n\n```{match['kind']}\n{printed}```\n"

        README.write_text(BLOCK.sub(renewed, text), encoding="utf-8")
        return
    shown = next(match["text"] for match in BLOCK.finditer(text) if match["command"] == command)
    assert TORCH.sub("torch …", shown) == TORCH.sub("torch …", printed)


def test_the_readme_has_its_blocks() -> None:
    assert any("compare" in command for command in COMMANDS)
    assert any(" run " in command for command in COMMANDS)
    assert "<!-- tests -->" in README.read_text(encoding="utf-8")
