"""Norms of what an optimizer of a process among several is about to update, to be compared with those of the others.

Looked at before its steps 1, 2, 4, 8 …: on a device, each look waits for it once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import distributed
from torch.compiler import is_dynamo_compiling
from torch.optim import Optimizer

from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.noting import note
from gradscope.recorder.patches.optimizer_groups import number_of
from gradscope.recorder.state.tensors_in import PLAIN, grad_of
from gradscope.recording.rows import EventKind

_REPLICA = int(EventKind.REPLICA)
MOST = 4096
"""Parameters of one optimizer that are looked at."""
_steps: WeakKeyDictionary[Optimizer, int] = WeakKeyDictionary()


def before_step(optimizer: Optimizer, *_: Any) -> None:
    """Look at the parameters: a hook before every optimizer's step."""
    if is_dynamo_compiling() or not (distributed.is_available() and distributed.is_initialized()):
        return
    step = _steps[optimizer] = _steps.get(optimizer, 0) + 1
    if step & (step - 1) or distributed.get_world_size() < 2 or not is_ours_on_top():
        return
    frame = sys._getframe(1)
    held = [one for group in optimizer.param_groups for one in group["params"] if type(one) in PLAIN][:MOST]

    def observe(mode: Any) -> None:
        detail = {"step": step, "norms": _norms(held), "gradients": _norms([grad_of(one) for one in held])}
        mode.observer.observe_event(_REPLICA, frame, mode.thread, number_of(optimizer), detail, held)

    note("replica", observe)


def forget() -> None:
    """Count the steps of each optimizer anew: another recording begins."""
    _steps.clear()


def _norms(tensors: Sequence[Any]) -> list[float | None]:
    """The 2-norm of each; None for what is no dense tensor of floating point numbers, or not finite."""
    looked = [
        at
        for at, one in enumerate(tensors)
        if type(one) in PLAIN and one.layout == torch.strided and one.is_floating_point() and not one.is_meta
    ]
    found: list[float | None] = [None] * len(tensors)
    by_device: dict[Any, list[int]] = {}
    for at in looked:
        by_device.setdefault(tensors[at].device, []).append(at)
    with torch.no_grad():
        for places in by_device.values():
            norms = torch.stack([_norm(tensors[at]) for at in places])
            for at, norm in zip(places, norms.tolist(), strict=True):
                found[at] = norm if norm - norm == 0 else None
    return found


def _norm(tensor: Any) -> Any:
    wide = tensor if tensor.dtype == torch.float64 else tensor.float()
    return torch.linalg.vector_norm(wide).float()
