"""What ``gradscope run`` was asked to do."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from gradscope.analysis.view import RunView


class RunRequest(NamedTuple):
    """One call of ``gradscope run``."""

    target: str
    arguments: tuple[str, ...]
    is_code: bool
    is_module: bool
    watch: tuple[str, ...]
    max_ops: int | None
    view: RunView
    format: str
    """``table`` or a data format; empty: print nothing."""
    outputs: tuple[Path, ...]
    modules_at_start: frozenset[str]
    """Names of the modules that Python had imported before gradscope."""
