"""torch's private entry points that the recorder uses, in one place, chosen by what this torch has."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch

from gradscope.frames.replacements import Replacement

sequence_number: Callable[[], int] = torch._C._autograd._get_sequence_nr
"""The sequence number that this thread's next autograd node gets."""

is_any_autocast_enabled: Callable[[], bool] = torch._C._is_any_autocast_enabled

dispatch_modes: Callable[[], int] = torch._C._len_torch_dispatch_stack
"""How many of the program's dispatch modes are in force in this thread."""

tracing_state: Callable[[], object] = torch._C._get_tracing_state
"""Not None while ``torch.jit.trace`` runs."""

profiler_enabled: Callable[[], bool] = torch._C._autograd._profiler_enabled

functorch: Callable[[], object] = getattr(torch._C._functorch, "peek_interpreter_stack", lambda: None)
"""The innermost transform of functions that runs (``vmap``, ``grad``), or None."""

_cuda_is_used: Callable[[], bool] = torch.cuda.is_initialized


def is_observed_otherwise() -> bool:
    """Whether what we ask of tensors would show: in a profile, a transform of functions, a captured CUDA graph."""
    if profiler_enabled() or functorch() is not None:
        return True
    return _cuda_is_used() and torch.cuda.is_current_stream_capturing()


def is_wrapped(tensor: torch.Tensor) -> bool:
    """Whether a transform of functions made it: a batch of vmap's, the old one's that ``is_grads_batched`` uses too."""
    wrappers = torch._C._functorch
    return bool(wrappers.is_legacy_batchedtensor(tensor) or wrappers.is_functorch_wrapped_tensor(tensor))


def tracked_inside(tensor: torch.Tensor) -> torch.Tensor | None:
    """What a batch of vmap's wraps, where autograd tracks that: the batch itself has no ``grad_fn``. Else None."""
    wrappers = torch._C._functorch
    inside = tensor
    while wrappers.is_batchedtensor(inside):
        inside = wrappers.get_unwrapped(inside)
    is_tracked = inside is not tensor and not wrappers.is_functorch_wrapped_tensor(inside) and inside.requires_grad
    return inside if is_tracked else None


without_tangents: Any = torch.autograd.forward_ad._set_fwd_grad_enabled
"""``without_tangents(False)``: within it, what is computed of dual tensors has no tangent."""

_fx: Any = torch.fx._symbolic_trace


def _fx_flag() -> bool:
    return bool(_fx._is_fx_tracing_flag)


fx_traces: Callable[[], bool] = getattr(_fx, "_get_is_fx_tracing", _fx_flag)
"""Whether ``torch.fx`` (``symbolic_trace``, ``make_fx``) follows what is called. Its public function logs a warning."""

ignore_saved_hooks: Callable[[bool], bool] = torch._C._autograd._saved_tensors_hooks_set_tracing
"""Let the saved-tensor hooks in force in this thread rest, or not; returns whether they did."""

has_node_creation_hook = hasattr(torch.autograd.graph, "node_creation_hook")
"""torch 2.15 on; not used (see the page about limits), reported by ``gradscope doctor``."""

_top_hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
_set_version: Any = torch._C._autograd._unsafe_set_version_counter


def _takes_sequences() -> bool:
    probe = torch.empty(0)
    try:
        _set_version((probe,), (0,))
    except TypeError:
        return False  # torch 2.6 takes one tensor
    return True


_VERSION_OF_MANY = _takes_sequences()


def version_setter(tensor: Any, version: int) -> Callable[[], None]:
    """What sets a tensor's version counter: a call that no code of Python's runs in."""
    return partial(_set_version, (tensor,), (version,)) if _VERSION_OF_MANY else partial(_set_version, tensor, version)


def _is_not_cow(_tensor: Any) -> bool:
    return False


is_copied_on_write: Callable[[Any], bool] = getattr(torch._C, "_is_cow_tensor", _is_not_cow)
"""Whether a tensor's memory is copied when its address is asked for (``torch._lazy_clone``)."""


saved_tensors_tell_hooks = hasattr(torch._C._autograd.SavedTensor, "unpack_hook")
"""Whether a saved tensor says if it is behind a hook, so that reading it would run the hook (not in torch 2.6)."""

_IS_COUNTED = _top_hooks is None or not saved_tensors_tell_hooks


class _Hooks(threading.local):
    """Saved-tensor hooks in force in this thread, counted where torch cannot be asked."""

    depth = 0
    ever = False
    """Of any thread: set on the class."""


_hooks = _Hooks()


def _counted_hooks(_also_at_rest: bool) -> object:
    return True if _hooks.depth else None


innermost_saved_hooks: Callable[[bool], object] = _top_hooks or _counted_hooks
"""The saved-tensor hooks that would run if a saved tensor were read, or None; called with True."""


def saved_hooks_were_used() -> bool:
    """Whether saved-tensor hooks were ever in force while a recorder was at work; known only where they are counted."""
    return _Hooks.ever


class HookCounter:
    """Counts pushes and pops of saved-tensor hooks while one is installed, on torch that cannot be asked for them."""

    _installed: ClassVar[set[HookCounter]] = set()
    _functions: ClassVar[list[Replacement]] = []

    def install(self) -> None:
        """Begin to count; nothing to do on torch that can be asked."""
        if not _IS_COUNTED:
            return
        if not HookCounter._installed:
            _Hooks.ever = _hooks.depth > 0
            autograd = torch._C._autograd
            self._functions.append(Replacement(autograd, "_push_saved_tensors_default_hooks", _counted_push))
            self._functions.append(Replacement(autograd, "_pop_saved_tensors_default_hooks", _counted_pop))
            # A saved tensor can be given hooks of its own, too.
            self._functions.append(Replacement(autograd.SavedTensor, "register_hooks", _counted_registration))
        HookCounter._installed.add(self)

    def remove(self) -> None:
        """Put torch's own functions back, after the last one."""
        HookCounter._installed.discard(self)
        if not HookCounter._installed:
            for function in self._functions:
                function.put_back()
            self._functions.clear()


def _counted_push(push: Callable[..., None]) -> Callable[..., None]:
    def counted(*hooks: Any) -> None:
        push(*hooks)
        _hooks.depth += 1
        _Hooks.ever = True

    return counted


def _counted_registration(register: Callable[..., None]) -> Callable[..., None]:
    def counted(saved: Any, *hooks: Any) -> None:
        register(saved, *hooks)
        _Hooks.ever = True

    return counted


def _counted_pop(pop: Callable[[], None]) -> Callable[[], None]:
    def counted() -> None:
        pop()
        _hooks.depth -= 1

    return counted
