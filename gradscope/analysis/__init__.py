"""Analyses: small pure functions from a recording to the report. Never imports torch.

Each public name is loaded when it is first used: a command that only reads its options waits for nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradscope.analysis.report_builder import build
    from gradscope.analysis.report_model import Report
    from gradscope.analysis.view import RunView

__all__ = ["Report", "RunView", "build"]

_HOME = {
    "Report": "gradscope.analysis.report_model",
    "RunView": "gradscope.analysis.view",
    "build": "gradscope.analysis.report_builder",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
