"""The report of a program as a script gets it: run under the recorder in this process, and made JSON types of."""

from __future__ import annotations

import linecache
import random
from typing import Any

import torch

from gradscope.analysis.report_builder import build
from gradscope.report.json_values import plain
from tests.analysis.building import FILE, recorded


def reported(source: str) -> dict[str, Any]:
    """What gradscope says of a program. Whatever the program left switched is put back."""
    linecache.cache[FILE] = (len(source), None, source.splitlines(keepends=True), FILE)  # for torch.jit.script
    grad_mode, seed = torch.is_grad_enabled(), random.getstate()
    try:
        with torch.random.fork_rng():
            found: dict[str, Any] = plain(build(recorded(source)))
            return found
    finally:
        torch.set_grad_enabled(grad_mode)
        random.setstate(seed)
