"""Finding the tensors among the arguments and results of a call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

_DisableSubclass = torch._C.DisableTorchFunctionSubclass
_NUMBERS = (int, float, bool, complex)
_SETTINGS = (torch.Size, torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Generator)

PLAIN = frozenset((Tensor, Parameter))
"""Types whose attributes can be read without running anybody's code."""

BORING = frozenset((*_NUMBERS, *_SETTINGS, str, bytes, type(None), type(...), slice, type))
"""Types that hold no tensors; asked first, because ``isinstance`` of a tensor class is slow.

Only a type whose own type is ``type`` is looked up in it: the program may have made others that have no hash.
"""


def tensors_in(value: Any) -> list[Any]:
    """Every tensor in nested tuples, lists and dicts, in order."""
    found: list[Any] = []
    todo = [value]
    visited: set[int] = set()
    while todo:
        current = todo.pop()
        kind = type(current)
        if kind is Tensor or kind is Parameter:
            found.append(current)
        elif type(kind) is type and kind in BORING:
            continue
        elif issubclass(kind, (tuple, list, dict)):
            if id(current) not in visited:  # a list may hold itself
                visited.add(id(current))
                todo += reversed(_items(kind, current))
        elif issubclass(kind, Tensor):
            found.append(current)
    return found


def _items(kind: type, container: Any) -> list[Any]:
    """By the methods of the built-in types: those of a subclass are the program's code."""
    if issubclass(kind, dict):
        return list(dict.values(container))
    return list((list if issubclass(kind, list) else tuple).__iter__(container))


def arguments_of(args: Any, kwargs: Any) -> list[Any]:
    """The tensors among the arguments of a call."""
    found = []
    for value in (*args, *kwargs.values()) if kwargs else args:
        kind = type(value)
        if kind is Tensor or kind is Parameter:
            found.append(value)
        elif type(kind) is not type or kind not in BORING:
            found += tensors_in(value)
    return found


def version_of(tensor: Any) -> int:
    """The version counter, or -1 for a tensor that has none (an inference tensor)."""
    try:
        if type(tensor) is Tensor or type(tensor) is Parameter:
            return int(tensor._version)
        with _DisableSubclass():
            return int(tensor._version)
    except RuntimeError:
        return -1


def written_version_of(gradient: Any) -> int:
    """A version that any write to a gradient raises: of a sharded one also a write to its part on this process."""
    if type(gradient) in PLAIN:
        return version_of(gradient)
    with _DisableSubclass():
        local = getattr(gradient, "_local_tensor", None)
    return version_of(gradient) + (version_of(local) if isinstance(local, Tensor) else 0)


def grad_of(tensor: Any) -> Any:
    """A tensor's ``.grad``, where asking for it is neither warned of nor forbidden; else None."""
    if tensor is None:
        return None
    try:
        if type(tensor) in PLAIN:
            return tensor.grad if tensor.is_leaf or tensor.retains_grad else None
        with _DisableSubclass():
            return tensor.grad if tensor.is_leaf or tensor.retains_grad else None
    except RuntimeError:  # a view that autograd forbids to be used since its base was changed in place
        return None
