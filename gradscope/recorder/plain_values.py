"""A program's values as text for a shell and as plain data for JSON."""

from __future__ import annotations

import sys
from typing import Any

TENSOR_TAG = "$tensor"
REPR_TAG = "$repr"
_DEEPEST = 32
"""Nested containers deeper than this (a list that holds itself) are given as text."""


def as_text(value: Any) -> str:
    """A value on one line: a string as it is, everything else as Python writes it."""
    if isinstance(value, str):
        return value.replace("\n", "\\n").replace("\r", "\\r")
    return " ".join(repr(value).split())


def as_data(value: Any, depth: int = 0) -> Any:
    """A value made of what JSON has.

    Tensors are ``{"$tensor": {shape, dtype, device, requires_grad, values}}``; shapes, tuples and sets are lists;
    dtypes and devices are their names; anything else is ``{"$repr": text}``.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if depth < _DEEPEST:
        if isinstance(value, (list, tuple, set, frozenset)):
            return [as_data(item, depth + 1) for item in value]
        if isinstance(value, dict):
            return {str(key): as_data(item, depth + 1) for key, item in value.items()}
    torch = sys.modules.get("torch")
    if torch is not None:
        if isinstance(value, torch.Tensor):
            return _tensor(value)
        if isinstance(value, (torch.dtype, torch.device, torch.layout)):
            return str(value).removeprefix("torch.")
    return {REPR_TAG: as_text(value)}


def _tensor(tensor: Any) -> dict[str, Any]:
    description = {
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "device": str(tensor.device),
        "requires_grad": tensor.requires_grad,
    }
    try:
        values = as_data(tensor.tolist())
    except (RuntimeError, NotImplementedError):  # sparse, meta: no values that could be listed
        values = None
    return {TENSOR_TAG: description | {"values": values}}
