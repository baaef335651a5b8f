"""``Optimizer.zero_grad()`` as one op: the parameters whose gradients it let go.

torch reads and sets ``.grad`` of every parameter there. The modes step aside meanwhile, and gradients are looked at
before and after. Where it fills them with zeros, or where code of the program's may run, each call is recorded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import Any

from torch import Tensor
from torch._C import DisableTorchFunction
from torch.compiler import is_dynamo_compiling
from torch.optim import Optimizer

from gradscope.recorder.calls.faults import is_programs
from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import aside, is_ours_on_top
from gradscope.recorder.calls.observer import Observer
from gradscope.recorder.calls.shielded_observer import ShieldedObserver
from gradscope.recorder.state.tensors_in import PLAIN, grad_of
from gradscope.recorder.torch_internals.capabilities import tracing_state

_Held = tuple[Tensor, int]
"""A parameter that has a gradient, and the gradient's row (or NONE)."""


def reported_as_one(zero_grad: Callable[..., None]) -> Callable[..., None]:
    """What stands for ``Optimizer.zero_grad`` while a recorder is at work."""

    @wraps(zero_grad)
    def clears(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        to_none = args[0] if args else kwargs.get("set_to_none", True)
        if is_dynamo_compiling() or to_none is not True or not is_ours_on_top() or tracing_state() is not None:
            return zero_grad(optimizer, *args, **kwargs)
        parameters = _plain_parameters(optimizer)
        if not parameters:
            return zero_grad(optimizer, *args, **kwargs)
        with aside() as modes:
            before = [_gradients(mode.observer, parameters) for mode in modes]
            try:
                zero_grad(optimizer, *args, **kwargs)
            finally:
                for mode, gradients in zip(modes, before, strict=True):
                    _observe(mode, gradients, sys._getframe(1))

    return clears


def _plain_parameters(optimizer: Optimizer) -> list[Tensor]:
    """Its parameters, if they are no subclass's and are where torch keeps them."""
    groups = vars(optimizer).get("param_groups")  # not asked for as an attribute: the program may have its own way
    if type(groups) is not list or not all(
        type(group) is dict and type(group.get("params")) is list for group in groups
    ):
        return []
    parameters = [parameter for group in groups for parameter in group["params"]]
    return parameters if all(type(parameter) in PLAIN for parameter in parameters) else []


def _gradients(observer: Observer | ShieldedObserver, parameters: list[Tensor]) -> list[_Held]:
    """The gradients that are there. Only numbers are held: one kept alive could change what the program sees."""
    identity = observer.identity
    with _looking(observer), observer.lock:
        identity.bury()
        found = ((parameter, grad_of(parameter)) for parameter in parameters)
        return [(parameter, identity.row_of(gradient)) for parameter, gradient in found if gradient is not None]
    return []


def _observe(mode: RecorderMode, before: list[_Held], frame: FrameType) -> None:
    with _looking(mode.observer):
        cleared = [(parameter, row) for parameter, row in before if grad_of(parameter) is None]
        if not (mode.muted or mode.observer.muted):
            mode.observer.observe_cleared("optim.Optimizer.zero_grad", cleared, mode.thread, frame)


@contextmanager
def _looking(observer: Observer | ShieldedObserver) -> Iterator[None]:
    """Unseen by a mode of the program's below ours; a fault is kept, and does not reach the program."""
    try:
        with DisableTorchFunction():
            yield
    except Exception as fault:
        if is_programs(fault):
            raise
        observer.fault("zero_grad")
