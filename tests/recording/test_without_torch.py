"""A recording is read, analysed and shown where torch cannot be imported."""

import sys
from pathlib import Path

import pytest

from gradscope.recording.file.store import save
from tests.processes import run as run_command
from tests.recording.samples import sample

NO_TORCH = """
import sys
sys.modules["torch"] = None  # importing it raises
from gradscope.__main__ import main
sys.argv[0] = "gradscope"
sys.exit(main())
"""


@pytest.mark.parametrize("format_name", ["table", "json", "jsonl", "csv", "markdown", "svg"])
def test_each_format(tmp_path: Path, format_name: str) -> None:
    save(sample(), tmp_path / "run.gradscope")
    command = [sys.executable, "-c", NO_TORCH, "report", str(tmp_path / "run.gradscope"), "-f", format_name]
    done = run_command(command)
    assert (done.returncode, done.stderr) == (0, "")
    assert "MulBackward0" in done.stdout


def test_the_public_functions(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["torch"] = None
import gradscope
recording = gradscope.Recording()
gradscope.save(recording, r"{tmp_path / "run.gradscope"}")
print(len(gradscope.load(r"{tmp_path / "run.gradscope"}").ops))
"""
    done = run_command([sys.executable, "-c", code])
    assert (done.stdout, done.stderr) == ("0\n", "")
