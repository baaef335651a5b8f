"""What ``gradscope check`` was asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from gradscope.cli.options.output_options import Output


@dataclass(frozen=True)
class CheckRequest:
    """One call of ``gradscope check``."""

    targets: tuple[str, ...]
    is_code: bool
    is_module: bool
    expressions: tuple[str, ...]
    timeout: float | None
    jobs: int | None
    output: Output
