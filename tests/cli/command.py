"""Running the command as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.processes import run as run_command

GRADSCOPE = str(Path(sys.executable).parent / "gradscope")


def gradscope(*arguments: str, cwd: Path, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command; its output as text."""
    kept = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "NO_COLOR", "COLUMNS")}
    return run_command(
        [GRADSCOPE, *arguments],
        cwd=cwd,
        input=stdin,
        env={**kept, "OMP_NUM_THREADS": "1", **environment},
    )
