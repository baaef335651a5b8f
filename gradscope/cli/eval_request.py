"""What ``gradscope eval`` was asked to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EvalRequest:
    """One call of ``gradscope eval``."""

    target: str
    expressions: tuple[str, ...]
    is_code: bool
    is_module: bool
    as_json: bool
    modules_at_start: frozenset[str]
    """Names of the modules that Python had imported before gradscope."""
