"""Fixes of many programs from one process that has imported torch once: ``python -m tests.fix.fixed_programs FILE…``.

It prints an object a line, ``gradscope fix -f json`` of each file; each is worked on in a fork.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch._dynamo  # noqa: F401 - loaded once, for all forks

import gradscope.recorder.session  # noqa: F401
from gradscope.experiments.fix.fixing import Fixing, FixOptions
from gradscope.report.fix.fix_formats import as_json
from gradscope.targets.resolve import resolve


def main() -> None:
    """Print what there is for each file."""
    for name in sys.argv[1:]:
        child = os.fork()
        if child == 0:
            os.chdir(Path(name).parent)
            text = as_json(Fixing(resolve(Path(name).name), FixOptions(jobs=2)).find())
            os.write(1, " ".join(text.split("\n")).encode() + b"\n")
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            sys.exit(f"{name}: failed")


if __name__ == "__main__":
    main()
