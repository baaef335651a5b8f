"""What ``gradscope compare`` was asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from gradscope.cli.options.output_options import Output


@dataclass(frozen=True)
class CompareRequest:
    """One call of ``gradscope compare``."""

    targets: tuple[str, ...]
    all_rows: bool
    only: tuple[str, ...]
    """Names of cells, or several with commas between."""
    baseline: str | None
    exit_code: bool
    repeat: int
    """Timed runs of each variant; 0: no times."""
    timeout: float | None
    jobs: int | None
    output: Output
