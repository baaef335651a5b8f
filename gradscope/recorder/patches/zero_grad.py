"""``zero_grad()`` of an optimizer or a module as one op: the parameters whose gradients it let go.

torch reads and sets ``.grad`` of every parameter there. The modes step aside meanwhile, and gradients are looked at
before and after. Where it fills them with zeros, or where code of the program's may run, each call is recorded. What
finds nothing to clear is an op as well: it ran.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any

from torch import Tensor, nn
from torch._C import DisableTorchFunction
from torch.compiler import is_dynamo_compiling
from torch.optim import Optimizer

from gradscope.recorder.calls.faults import is_programs
from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import is_ours_on_top, put_back, take_aside
from gradscope.recorder.calls.observer import Observer
from gradscope.recorder.calls.shielded_observer import ShieldedObserver
from gradscope.recorder.state.many_tensors import Held
from gradscope.recorder.state.tensors_in import PLAIN
from gradscope.recorder.torch_internals.capabilities import tracing_state

_ASKED = (
    "parameters",
    "named_parameters",
    "_named_members",
    "named_modules",
    "modules",
    "__getattr__",
    "__getattribute__",
)
"""What ``Module.zero_grad`` finds parameters with; one of the program's own is to be seen at work."""


def of_optimizer(zero_grad: Callable[..., None]) -> Callable[..., None]:
    """What stands for ``Optimizer.zero_grad`` while a recorder is at work."""
    return _as_one(zero_grad, "optim.Optimizer.zero_grad", _of_groups)


def of_module(zero_grad: Callable[..., None]) -> Callable[..., None]:
    """What stands for ``Module.zero_grad`` while a recorder is at work."""
    return _as_one(zero_grad, "nn.Module.zero_grad", _of_module)


def _as_one(
    zero_grad: Callable[..., None], name: str, parameters_of: Callable[[Any], list[Tensor]]
) -> Callable[..., None]:
    @wraps(zero_grad)
    def clears(owner: Any, *args: Any, **kwargs: Any) -> None:
        to_none = args[0] if args else kwargs.get("set_to_none", True)
        if is_dynamo_compiling() or to_none is not True or not is_ours_on_top() or tracing_state() is not None:
            return zero_grad(owner, *args, **kwargs)
        parameters = parameters_of(owner)
        if not parameters or not PLAIN.issuperset(map(type, parameters)):
            return zero_grad(owner, *args, **kwargs)
        modes = take_aside()
        try:
            before = [_gradients(mode.observer, parameters) for mode in modes]
            try:
                zero_grad(owner, *args, **kwargs)
            finally:
                for mode, gradients in zip(modes, before, strict=True):
                    _observe(mode, name, gradients, sys._getframe(1))
        finally:
            put_back(modes)

    return clears


def _of_groups(optimizer: Optimizer) -> list[Tensor]:
    """The parameters of an optimizer, if they are where torch keeps them."""
    groups = vars(optimizer).get("param_groups")  # not asked for as an attribute: the program may have its own way
    if type(groups) is not list or not all(
        type(group) is dict and type(group.get("params")) is list for group in groups
    ):
        return []
    return [parameter for group in groups for parameter in group["params"]]


def _of_module(module: nn.Module) -> list[Tensor]:
    """The parameters of a module, if it and what is in it ask for them as torch does."""
    if any(getattr(type(module), name) is not getattr(nn.Module, name) for name in _ASKED):
        return []
    tables = [vars(one).get("_parameters", {}) for one in module.modules()]
    return [parameter for table in tables for parameter in table.values() if parameter is not None]


def _gradients(observer: Observer | ShieldedObserver, parameters: list[Tensor]) -> list[Held]:
    """The gradients that are there."""
    if observer.full:
        return []
    try:
        with DisableTorchFunction(), observer.lock:  # (unseen by a mode of the program's below ours)
            observer.identity.bury()
            return observer.many.held(parameters)
    except Exception as fault:
        _keep(observer, fault)
        return []


def _observe(mode: RecorderMode, name: str, before: list[Held], frame: FrameType) -> None:
    try:
        with DisableTorchFunction():
            if not (mode.muted or mode.observer.muted):
                mode.observer.observe_cleared(name, before, mode.thread, frame)
    except Exception as fault:
        _keep(mode.observer, fault)


def _keep(observer: Observer | ShieldedObserver, fault: Exception) -> None:
    """Keep an error of ours, which does not reach the program; what a signal handler raised meanwhile does."""
    if is_programs(fault):
        raise fault
    observer.fault("zero_grad")
