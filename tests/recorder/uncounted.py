"""Asking of torch which tensors a call wrote without raising their version counters."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from gradscope.recorder.calls.torch_functions import describe

Written = tuple[str, int | str]
"""A function, and which of its arguments: position or keyword."""


class WatchedMemory(TorchFunctionMode):
    """Compares memory and version counters of every argument of every call of a torch function."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[Written] = set()
        """Arguments that were written, and whose counter stayed as it was."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunction():
            before = [
                (place, tensor, _bytes(tensor), tensor._version)
                for place, value in (*enumerate(args), *kwargs.items())
                for tensor in _plain_tensors(value)
            ]
        result = func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            for place, tensor, memory, version in before:
                if tensor._version == version and _bytes(tensor) != memory:
                    self.found.add((describe(func).name, place))
        return result


def _plain_tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _plain_tensors(item)
    elif type(value) in (torch.Tensor, torch.nn.Parameter) and _is_plain(value):
        yield value


def _is_plain(tensor: torch.Tensor) -> bool:
    if tensor.layout is not torch.strided or tensor.device.type != "cpu":
        return False
    return not tensor.is_inference() and not tensor.is_nested


def _bytes(tensor: torch.Tensor) -> bytes:
    storage = tensor.untyped_storage()
    return ctypes.string_at(storage.data_ptr(), storage.nbytes()) if storage.data_ptr() else b""
