"""The same function bare and recorded, and whether anything that the program could see differs.

What is compared is described after the run, outside the recorder: results to the last bit, the exception, warnings with
their place, the random number generators and the version counters.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch._subclasses import FakeTensor

from gradscope.recorder.session import Recorder
from gradscope.recording import Recording

HERE = str(Path(__file__).parent)


def recorder_for_tests() -> Recorder:
    """A recorder to which this folder is the user's code."""
    return Recorder(is_user=lambda filename: filename.startswith(HERE))


@dataclass
class Seen:
    """What a program could see of one run of a function."""

    result: Any
    error: tuple[str, str] | None
    warned: list[tuple[str, str, str, int]]
    generators: tuple[Any, ...]


@contextmanager
def catching_warnings() -> Iterator[list[tuple[str, str, str, int]]]:
    """Text, category, file and line of each warning, filled when the block ends; torch warns each time, not once."""
    warned: list[tuple[str, str, str, int]] = []
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield warned
    finally:
        torch.set_warn_always(always)
        warned += [(str(one.message), one.category.__name__, one.filename, one.lineno) for one in caught]


def see(function: Callable[[], Any], recorder: Recorder | None) -> Seen:
    """Run a function from a fixed seed, with a recorder around it or without."""
    torch.manual_seed(7)
    random.seed(7)
    result, error = None, None
    with catching_warnings() as warned:
        if recorder is not None:
            recorder.start()
        try:
            result = function()
        except Exception as raised:
            error = (type(raised).__name__, str(raised))
        finally:
            if recorder is not None:
                recorder.stop()
    generators = (bytes(torch.get_rng_state().tolist()), random.getstate())
    return Seen(describe(result), error, warned, generators)


def assert_unnoticed(function: Callable[[], Any]) -> Recording:
    """Assert that a function, run bare and recorded, gives and leaves the same; returns the recording."""
    recorder = recorder_for_tests()
    see(function, None)  # torch warns, compiles and caches at the first run of some functions
    bare, recorded = see(function, None), see(function, recorder)
    assert recorded.error == bare.error
    assert recorded.result == bare.result
    assert recorded.warned == bare.warned
    assert recorded.generators == bare.generators
    assert [fault.traceback for fault in recorder.recording.faults] == []
    return recorder.recording


def describe(value: Any) -> Any:
    """A value as plain data that compares equal only when it is the same to the last bit."""
    if isinstance(value, torch.Tensor):
        return describe_tensor(value)
    if isinstance(value, dict):
        return {key: describe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *map(describe, value)]
    if isinstance(value, torch.nn.Module):
        return [type(value).__name__, value.training, describe(dict(value.state_dict(keep_vars=True)))]
    return repr(value) if isinstance(value, (float, complex)) else value


def describe_tensor(tensor: Any) -> Any:
    """Type, layout, what autograd says of it, version, bytes, and its gradient."""
    with torch._C.DisableTorchFunctionSubclass():
        grad_fn = tensor.grad_fn
        facts = {
            "type": type(tensor).__name__,
            "dtype": str(tensor.dtype),
            "layout": str(tensor.layout),
            "device": str(tensor.device),
            "requires_grad": tensor.requires_grad,
            "leaf": tensor.is_leaf,
            "grad_fn": None if grad_fn is None else grad_fn.name(),
            "version": None if tensor.is_inference() else tensor._version,
            "bytes": bytes_of(tensor),
        }
        if tensor.layout == torch.strided and not tensor.is_nested:
            facts["shape"], facts["stride"] = tuple(tensor.shape), tuple(tensor.stride())
        if tensor.is_leaf or tensor.retains_grad:
            facts["grad"] = None if tensor.grad is None else describe_tensor(tensor.grad)
        return facts


@torch.no_grad()
def bytes_of(tensor: Any) -> Any:
    """The elements, bit by bit (a NaN is equal to itself)."""
    if tensor.device.type == "meta" or is_fake(tensor):
        return None
    if tensor.is_nested:
        return [bytes_of(part) for part in tensor.unbind()]
    if tensor.layout == torch.sparse_coo:
        return [tensor.is_coalesced(), bytes_of(tensor._indices()), bytes_of(tensor._values())]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [bytes_of(tensor.crow_indices()), bytes_of(tensor.col_indices()), bytes_of(tensor.values())]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [bytes_of(tensor.ccol_indices()), bytes_of(tensor.row_indices()), bytes_of(tensor.values())]
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_quantized:
        return [str(tensor.qscheme()), bytes_of(tensor.int_repr()), bytes_of(tensor.dequantize())]
    plain = tensor.detach().resolve_conj().resolve_neg().reshape(-1).clone(memory_format=torch.contiguous_format)
    return plain.view(torch.uint8).numpy().tobytes()


def is_fake(tensor: Any) -> bool:
    """Whether it is a tensor without data, as torch.compile uses them."""
    return isinstance(tensor, FakeTensor)
