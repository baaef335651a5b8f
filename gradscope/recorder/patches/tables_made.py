"""Calls of ``nn.Embedding.from_pretrained``: a class method, which makes another module where an object calls it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.compiler import is_dynamo_compiling

from gradscope.frames.uncounted import uncounted
from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.noting import note
from gradscope.recording.rows import EventKind

NAME = "from_pretrained"
KINDS = (nn.Embedding, nn.EmbeddingBag)
_TABLE_MADE = int(EventKind.TABLE_MADE)


def reported(make: Callable[..., Any]) -> Any:
    """What stands for the method while a recorder is at work."""
    original: Any = getattr(make, "__func__", make)

    def makes(kind: type, *args: Any, **kwargs: Any) -> Any:
        made = original(kind, *args, **kwargs)
        if not is_dynamo_compiling() and is_ours_on_top():
            frame, parameters = sys._getframe(1), list(made.parameters()) if isinstance(made, nn.Module) else []
            note(
                "table made",
                lambda mode: mode.observer.observe_event(
                    _TABLE_MADE, frame, mode.thread, 0, {"module": kind.__name__}, parameters
                ),
            )
        return made

    makes.__name__, makes.__qualname__, makes.__doc__ = NAME, original.__qualname__, original.__doc__
    return classmethod(uncounted(makes))
