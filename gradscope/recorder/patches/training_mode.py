"""Where the program calls ``train()`` or ``eval()`` on a module.

``Module.train`` calls itself for every module within: only the outermost call is noted, before the others, as a module
within may set parts of itself otherwise meanwhile.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from functools import wraps
from itertools import count
from types import FrameType
from typing import Any

from torch import nn
from torch.compiler import is_dynamo_compiling
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.noting import note
from gradscope.recorder.places.frames_around import spans_around
from gradscope.recording.rows import EventKind

_TRAINING_MODE = int(EventKind.TRAINING_MODE)
_known: dict[int, tuple[weakref.ref[nn.Module], int, list[int]]] = {}
"""For each module by its ``id``: itself, its number, and how many dropouts (that drop) and batch norms it has."""
_next = count()


def reported(train: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """What stands for ``Module.train`` while a recorder is at work."""
    own = train.__code__

    @wraps(train)
    def sets(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        frame = sys._getframe(1)
        if frame.f_code is not own and not is_dynamo_compiling() and is_ours_on_top():
            training = args[0] if args else kwargs.get("mode", True)
            if type(training) is bool:
                note("training mode", lambda mode: _observe(mode, module, training, frame))
        return train(module, *args, **kwargs)

    return sets


def forget() -> None:
    """Note the parameters of each module anew: another recording begins."""
    _known.clear()


def _observe(mode: RecorderMode, module: nn.Module, training: bool, frame: FrameType) -> None:
    held = _known.get(id(module))
    parameters: list[Any] = []
    if held is None or held[0]() is not module:
        inside = list(module.modules())
        norms = sum(isinstance(one, _BatchNorm) for one in inside)
        counts = [sum(isinstance(one, _DropoutNd) and _drops(one) for one in inside), norms]
        held = _known[id(module)] = (weakref.ref(module), next(_next), counts)
        parameters = list(module.parameters())
    _, number, (dropouts, norms) = held
    detail: dict[str, Any] = {
        "training": training,
        "module": type(module).__name__,
        "dropouts": dropouts,
        "norms": norms,
    }
    if mode.observer.sites.locate(frame).site.inner >= 0:
        detail["by_library"] = True
    around = spans_around(mode.observer.sites, frame)
    if len(around) > 1:  # a helper or an evaluation calls it: who called that tells where the mode is left
        detail["through"] = around
    mode.observer.look_at_dropping()
    mode.observer.observe_event(_TRAINING_MODE, frame, mode.thread, number, detail, parameters)


def _drops(dropout: _DropoutNd) -> bool:
    """Whether a dropout has a rate: one of zero does the same in both modes."""
    rate = vars(dropout).get("p")
    return not isinstance(rate, int | float) or rate > 0
