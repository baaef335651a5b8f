"""A program's values as text for a shell and as plain data for JSON."""

from __future__ import annotations

import re
import sys
from typing import Any

TENSOR_TAG = "$tensor"
REPR_TAG = "$repr"
_DEEPEST = 32
"""Nested containers deeper than this (a list that holds itself) are given as text."""


_LINE_BREAKS = re.compile(r"\s*[\n\r\v\f\x85\u2028\u2029]\s*")


def on_one_line(text: str) -> str:
    """Text whose line breaks, with the blanks around them, are a blank each; blanks within a line stay."""
    return _LINE_BREAKS.sub(" ", text).strip()


def as_text(value: Any) -> str:
    """A value on one line: a string as it is but for ``\\\\``, ``\\n`` and ``\\r``, all else as Python writes it."""
    if isinstance(value, str):
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return on_one_line(repr(value))


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
