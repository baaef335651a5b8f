"""Where the program loads a state whose keys are not those of the module, and asks for no error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from itertools import count
from types import FrameType
from typing import Any

from torch import nn
from torch.compiler import is_dynamo_compiling

from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.noting import note
from gradscope.recording.rows import EventKind

_LOADED = int(EventKind.LOADED)
_next = count()


def reported(load_state_dict: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for ``nn.Module.load_state_dict`` while a recorder is at work."""

    @wraps(load_state_dict)
    def loads(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        result = load_state_dict(module, *args, **kwargs)
        if is_dynamo_compiling() or not is_ours_on_top():
            return result
        missing, unexpected = (getattr(result, name, None) for name in ("missing_keys", "unexpected_keys"))
        if missing and unexpected:
            frame = sys._getframe(1)
            note("load_state_dict", lambda mode: _observe(mode, module, missing, unexpected, frame))
        return result

    return loads


def _observe(
    mode: RecorderMode, module: nn.Module, missing: list[str], unexpected: list[str], frame: FrameType
) -> None:
    own = module.state_dict(keep_vars=True)
    detail = {
        "module": type(module).__name__,
        "keys": len(own),
        "missing": [str(key) for key in missing],
        "unexpected": [str(key) for key in unexpected],
    }
    tensors = [own[key] for key in missing if key in own]
    mode.observer.observe_event(_LOADED, frame, mode.thread, next(_next), detail, tensors)
