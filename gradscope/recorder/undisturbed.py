"""Running code of the user's that the program must not notice: an expression that is evaluated in between.

Imports no torch: the program may not have done so yet.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any


def is_traced() -> bool:
    """Whether ``torch.jit.trace`` or ``torch.fx`` follows what is called: whatever is evaluated becomes part of it."""
    if _torch() is None:
        return False
    from gradscope.recorder.capabilities import fx_traces, tracing_state

    return tracing_state() is not None or fx_traces()


@contextmanager
def undisturbed(*, may_draw: bool) -> Iterator[None]:
    """Put back what code may change in passing: random numbers, grad mode, and whether ``.grad`` was asked for.

    The program's modes (one that counts flops …) and saved-tensor hooks do not see it. What it writes to a tensor or an
    object stays written.

    Args:
        may_draw: The code may draw random numbers. Where it cannot, they are left alone: a thread that draws at the
            same time would get its numbers again.
    """
    torch = _torch()
    with _same_random_numbers(torch) if may_draw else nullcontext(), _unseen(torch) if torch else nullcontext():
        yield


def _torch() -> Any:
    """torch, or None where it is not imported, or not wholly yet."""
    module = sys.modules.get("torch")
    return module if hasattr(module, "compiler") else None


@contextmanager
def _same_random_numbers(torch: Any) -> Iterator[None]:
    python = random.getstate()
    numpy = sys.modules.get("numpy")
    arrays = numpy.random.get_state() if numpy is not None else None
    tensors = torch.get_rng_state() if torch is not None else None
    devices = torch.cuda.get_rng_state_all() if torch is not None and torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(arrays)
        if torch is not None:
            torch.set_rng_state(tensors)
            if torch.cuda.is_initialized():
                torch.cuda.set_rng_state_all(devices)


@contextmanager
def _unseen(torch: Any) -> Iterator[None]:
    from gradscope.recorder.capabilities import dispatch_modes, ignore_saved_hooks

    hooks_ignored = ignore_saved_hooks(True)
    try:
        with _without_function_modes(torch), _same_grad_mode(torch):
            if dispatch_modes():
                with torch.utils._python_dispatch._disable_current_modes():
                    yield
            else:
                yield
    finally:
        ignore_saved_hooks(hooks_ignored)


@contextmanager
def _same_grad_mode(torch: Any) -> Iterator[None]:
    before = torch.is_grad_enabled()
    try:
        yield
    finally:
        torch._C._set_grad_enabled(before)


@contextmanager
def _without_function_modes(torch: Any) -> Iterator[None]:
    """But for those that say on which device a tensor is made: an expression means the same device."""
    pop, push = torch._C._pop_torch_function_stack, torch._C._push_on_torch_function_stack
    modes = [pop() for _ in range(torch._C._len_torch_function_stack())][::-1]
    devices = sys.modules.get("torch.utils._device")  # imported with the first of them
    kept = [mode for mode in modes if devices is not None and isinstance(mode, devices.DeviceContext)]
    for mode in kept:
        push(mode)
    try:
        yield
    finally:
        for _ in range(torch._C._len_torch_function_stack()):
            pop()
        for mode in modes:
            push(mode)
