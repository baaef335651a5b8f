"""Observing a run: the only part of gradscope that imports torch, and only when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradscope.recorder.api import record
    from gradscope.recorder.session import Recorder

__all__ = ["Recorder", "record"]


def __getattr__(name: str) -> Any:
    if name == "Recorder":
        from gradscope.recorder.session import Recorder

        return Recorder
    if name == "record":
        from gradscope.recorder.api import record

        return record
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
