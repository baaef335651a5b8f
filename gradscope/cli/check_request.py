"""What ``gradscope check`` was asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CheckRequest:
    """One call of ``gradscope check``."""

    targets: tuple[str, ...]
    is_code: bool
    is_module: bool
    expressions: tuple[str, ...]
    timeout: float | None
    jobs: int | None
    printed: bool
    format: str
    """``table`` or a data format; empty: print nothing."""
    outputs: tuple[Path, ...]
    color: bool | None
    """None: as the terminal, NO_COLOR and FORCE_COLOR say."""
    width: int | None
