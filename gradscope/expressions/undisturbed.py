"""Running code of the user's that the program must not notice: an expression that is evaluated in between.

Imports no torch: the program may not have done so yet.
"""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple


def is_traced() -> bool:
    """Whether ``torch.jit.trace`` or ``torch.fx`` follows what is called: whatever is evaluated becomes part of it."""
    if _torch() is None:
        return False
    from gradscope.recorder.torch_internals.capabilities import fx_traces, tracing_state

    return tracing_state() is not None or fx_traces()


@contextmanager
def undisturbed(*, may_draw: bool) -> Iterator[None]:
    """Put back what code may change in passing: random numbers, grad mode, and whether ``.grad`` was asked for.

    The program's modes (one that counts flops …) and saved-tensor hooks do not see it. What it writes to a tensor or an
    object stays written.

    Args:
        may_draw: The code may draw random numbers. Where it cannot, they are not looked at.
    """
    torch = _torch()
    with _unseen(torch) if torch else nullcontext(), _same_random_numbers(torch) if may_draw else nullcontext():
        yield


def _torch() -> Any:
    """torch, or None where it is not imported, or not wholly yet."""
    module = sys.modules.get("torch")
    return module if hasattr(module, "compiler") else None


@contextmanager
def _same_random_numbers(torch: Any) -> Iterator[None]:
    """Put back each generator that was drawn from; another is not touched, as a thread may draw from it meanwhile."""
    generators = _generators(torch)
    before = [generator.state() for generator in generators]
    try:
        yield
    finally:
        for generator, known in zip(generators, before, strict=True):
            if generator.plain(generator.state()) != generator.plain(known):
                generator.put_back(known)


class _Generator(NamedTuple):
    state: Callable[[], Any]
    plain: Callable[[Any], object]
    """A state as what can be compared."""
    put_back: Callable[[Any], object]


def _generators(torch: Any) -> list[_Generator]:
    found = [_Generator(random.getstate, tuple, random.setstate)]
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        found.append(_Generator(numpy.random.get_state, pickle.dumps, numpy.random.set_state))
    if torch is not None:
        found.append(_Generator(partial(_state, torch), partial(_numbers, torch), torch.set_rng_state))
        if torch.cuda.is_initialized():
            states = torch.cuda.get_rng_state_all
            found.append(_Generator(states, partial(_numbers_of_each, torch), torch.cuda.set_rng_state_all))
    return found


def _state(torch: Any) -> Any:
    with torch._C._DisableFuncTorch():  # in a transform (vmap, grad) every new tensor is one of the transform's
        return torch.get_rng_state()


def _numbers(torch: Any, state: Any) -> list[int]:
    with torch._C._DisableFuncTorch():
        return list(state.tolist())


def _numbers_of_each(torch: Any, states: Any) -> list[list[int]]:
    return [_numbers(torch, state) for state in states]


@contextmanager
def _unseen(torch: Any) -> Iterator[None]:
    from gradscope.recorder.torch_internals.capabilities import dispatch_modes, ignore_saved_hooks

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
