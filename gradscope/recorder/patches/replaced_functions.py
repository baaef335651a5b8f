"""Functions of torch that others stand for while a recorder is at work.

The recorder's mode steps aside where torch asks whether one is on, and does something else if it is:
``nn.MultiheadAttention`` and the transformer layers leave their fast path, whose results are not those of the slow one,
and ``torch.jit.trace`` writes the frame that called an operator into the graph. The other way round,
``torch.autograd.backward`` reports itself to function modes only in newer torch: in older torch it is reported here.
``zero_grad`` is reported as one call, and ``torch.utils.swap_tensors`` does not meet our weak references.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.autograd.function import BackwardCFunction
from torch.compiler import is_dynamo_compiling
from torch.nn.modules._functions import BackwardHookFunction
from torch.nn.utils import stateless
from torch.overrides import handle_torch_function
from torch.utils import checkpoint
from torch.utils.hooks import RemovableHandle

from gradscope.frames.replacements import Replacement
from gradscope.recorder.calls.modes_aside import aside, is_ours_on_top
from gradscope.recorder.patches import (
    arrays_wrapped,
    barriers,
    checkpoint_calls,
    compiled_code,
    ddp_buffers,
    ddp_forwards,
    function_backwards,
    functional_keys,
    grad_scalers,
    hooks,
    inference_mode,
    learning_rates,
    loaded_states,
    optimizer_groups,
    optimizer_states,
    packed_tensors,
    process_ranks,
    rates_set_otherwise,
    repeated_modules,
    seeds,
    shallow_copies,
    storage_writes,
    stray_groups,
    tables_made,
    training_mode,
    unseen_calls,
    zero_grad,
)
from gradscope.recorder.patches.swapped_tensors import noted, without_ours

_FAST_PATHS = frozenset(
    kind.forward.__code__ for kind in (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)
)


_BACKWARD_IS_SEEN = "has_torch_function" in torch.autograd.backward.__code__.co_names
"""Whether torch itself hands ``torch.autograd.backward`` to function modes."""


def _on_fast_paths(has_torch_function: Callable[..., bool]) -> Callable[..., bool]:
    def asks(args: Any) -> bool:
        if is_dynamo_compiling() or sys._getframe(1).f_code not in _FAST_PATHS:
            return has_torch_function(args)
        with aside():
            return has_torch_function(args)

    return asks


def _always(trace: Callable[..., Any]) -> Callable[..., Any]:
    def traces(*args: Any, **kwargs: Any) -> Any:
        with aside():
            return trace(*args, **kwargs)

    return traces


def _reporting(backward: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(backward)
    def reports(*args: Any, **kwargs: Any) -> Any:
        if not is_ours_on_top():
            return backward(*args, **kwargs)
        tensors = args[0] if args else kwargs.get("tensors", ())
        return handle_torch_function(reports, (tensors,), *args, **kwargs)

    return reports


def _replacements() -> Iterator[Replacement]:
    yield Replacement(torch.overrides, "has_torch_function", _on_fast_paths)
    yield Replacement(torch.optim.Optimizer, "zero_grad", zero_grad.of_optimizer)
    yield Replacement(nn.Module, "zero_grad", zero_grad.of_module)
    yield Replacement(torch.optim.Optimizer, "add_param_group", optimizer_groups.reported)
    yield Replacement(torch.optim.Optimizer, "__init__", optimizer_groups.making_reported)
    yield Replacement(torch.optim.Optimizer, "state_dict", optimizer_states.taking_reported)
    yield Replacement(torch.optim.Optimizer, "load_state_dict", _loading_reported)
    yield Replacement(torch.optim.lr_scheduler.LRScheduler, "__init__", learning_rates.scheduler_made)
    updates = next(one for one in learning_rates.UPDATES if hasattr(torch.optim.lr_scheduler.LRScheduler, one))
    yield Replacement(torch.optim.lr_scheduler.LRScheduler, updates, learning_rates.scheduler_stepped)
    yield Replacement(nn.Module, "train", training_mode.reported)
    yield Replacement(nn.Module, "load_state_dict", loaded_states.reported)
    yield Replacement(nn.Module, "__setstate__", shallow_copies.reported)
    for kind in (nn.ModuleList, nn.Sequential):
        yield Replacement(kind, "__init__", repeated_modules.reported)
    yield Replacement(nn.Module, "add_module", repeated_modules.adding_reported)
    for name in grad_scalers.METHODS:
        yield Replacement(torch.amp.GradScaler, name, grad_scalers.reported)
    if generator := next((name for name in checkpoint_calls.GENERATORS if hasattr(checkpoint, name)), ""):
        yield Replacement(checkpoint, generator, checkpoint_calls.reported)
    for name in hooks.TENSOR_HOOKS:
        yield Replacement(torch.Tensor, name, hooks.reported_on_tensor(name))
    for name in hooks.MODULE_HOOKS:
        yield Replacement(nn.Module, name, hooks.reported_on_module(name))
    yield Replacement(torch.autograd.graph.saved_tensors_hooks, "__enter__", packed_tensors.reported)
    yield Replacement(RemovableHandle, "remove", hooks.reported_removal)
    yield Replacement(checkpoint.CheckpointFunction, "apply", checkpoint_calls.reentrant_reported)
    if hasattr(nn.parallel.DistributedDataParallel, ddp_forwards.METHOD):
        yield Replacement(nn.parallel.DistributedDataParallel, ddp_forwards.METHOD, ddp_forwards.reported)
    if hasattr(nn.parallel.DistributedDataParallel, ddp_buffers.METHOD):
        yield Replacement(nn.parallel.DistributedDataParallel, ddp_buffers.METHOD, ddp_buffers.reported)
    yield Replacement(nn.parallel.DistributedDataParallel, "__init__", ddp_forwards.making_reported)
    if hasattr(torch.distributed, process_ranks.NAME):
        yield Replacement(torch.distributed, process_ranks.NAME, process_ranks.reported)
    yield from barriers.replacements()
    for name in ("__enter__", "__exit__"):
        yield Replacement(torch.inference_mode, name, inference_mode.reported)
    if hasattr(torch._C, "_swap_tensor_impl") and hasattr(torch.utils, "weakref"):
        yield Replacement(torch._C, "_swap_tensor_impl", noted)
        yield Replacement(torch.utils, "weakref", lambda _: without_ours())
    for name in storage_writes.METHODS:
        yield Replacement(torch.UntypedStorage, name, storage_writes.reported)
    yield Replacement(torch, "from_numpy", arrays_wrapped.reported)
    for table in tables_made.KINDS:
        yield Replacement(table, tables_made.NAME, tables_made.reported)
    if hasattr(stateless, functional_keys.NAME):
        yield Replacement(stateless, functional_keys.NAME, functional_keys.reported)
    yield Replacement(torch, seeds.NAME, seeds.reported)
    yield Replacement(torch.random, seeds.NAME, seeds.reported)
    yield Replacement(torch.Tensor, "set_", unseen_calls.set_seen)
    yield Replacement(BackwardHookFunction, "apply", unseen_calls.backward_hooks_seen)
    for name in function_backwards.METHODS:
        if hasattr(BackwardCFunction, name):
            yield Replacement(BackwardCFunction, name, function_backwards.counted)
    if hasattr(torch.autograd, "_engine_run_backward"):
        yield Replacement(torch.autograd, "_engine_run_backward", unseen_calls.edges_seen)
    if not _BACKWARD_IS_SEEN:
        yield Replacement(torch.autograd, "backward", _reporting)
    for owner, name in (
        (torch._C, "_create_function_from_trace"),
        (torch._C, "_create_function_from_trace_with_dict"),
        (torch._C, "_create_graph_by_tracing"),
        (torch._C.ScriptModule, "_create_method_from_trace"),
        (torch._C.ScriptModule, "_create_method_from_trace_with_dict"),
    ):
        if hasattr(owner, name):
            yield Replacement(owner, name, _always)


def _loading_reported(load_state_dict: Callable[..., None]) -> Callable[..., None]:
    """What stands for ``Optimizer.load_state_dict``: what a state has of tensors, of rates and of groups is noted."""
    loads = stray_groups.loading_reported(load_state_dict)
    return rates_set_otherwise.loading_reported(optimizer_states.loading_reported(loads))


_installed: list[Replacement] = []
_made: list[Replacement] = []
"""Those of the recording before, which are put again where nobody has replaced anything since."""
_users: set[int] = set()


def install(recorder: object) -> None:
    """Step aside as long as a recorder is at work."""
    if not _users:
        training_mode.forget()
        ddp_forwards.forget()
        shallow_copies.forget()
        seeds.forget()
        functional_keys.forget()
        if not _made or not _put_again():
            _made[:] = _replacements()
        _installed.extend(_made)
        compiled_code.install()
    _users.add(id(recorder))


def _put_again() -> bool:
    """Put everything again, or nothing."""
    put: list[Replacement] = []
    for function in _made:
        if not function.put_again():
            for other in put:
                other.put_back()
            return False
        put.append(function)
    return True


def remove(recorder: object) -> None:
    """Put torch's own functions back after the last recorder, unless somebody else has replaced them since."""
    _users.discard(id(recorder))
    if not _users:
        compiled_code.remove()
        for function in _installed:
            function.put_back()
        _installed.clear()
