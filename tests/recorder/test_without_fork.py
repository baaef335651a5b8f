"""Where the system has no ``os.fork`` and no ``os.register_at_fork`` (Windows), a recording is made all the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.processes import run

RECORD = """
with gradscope.record() as recording:
    torch.ones(2, requires_grad=True).exp().sum().backward()
assert not recording.faults
print(len(recording.ops))
"""
RUN = """
from gradscope.__main__ import main
sys.argv = ["gradscope", "run", "-q", "-o", "run.gradscope", "program.py"]
try:
    main()
finally:
    print(len(gradscope.load("run.gradscope").ops))
"""


@pytest.mark.parametrize("use", [RECORD, RUN], ids=["record", "run"])
def test_a_recording(tmp_path: Path, use: str) -> None:
    (tmp_path / "program.py").write_text("import torch\ntorch.ones(2, requires_grad=True).exp().sum().backward()\n")
    # Python's own library and torch are made for the system that they are on: imported first, they keep the functions.
    start = "import sys, torch, os\ndel os.register_at_fork, os.fork\nimport gradscope\n"
    done = run([sys.executable, "-c", start + use], cwd=tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("4\n", "", 0)
