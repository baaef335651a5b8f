"""The smallest and the largest value of tensors, and norms: asked of the device at once, read when it is convenient.

Both values are NaN where a tensor holds a NaN, so that they tell whether it holds a NaN, an infinity, or zeros alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import compress
from typing import Any

import torch
from torch import Tensor

from gradscope.recorder.state.tensors_in import PLAIN
from gradscope.recorder.torch_internals.capabilities import is_wrapped

Range = tuple[float, float]
"""The smallest and the largest value."""

_DTYPES = frozenset((torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128))
_HALVES = frozenset((torch.float16, torch.bfloat16))
_DEVICES = frozenset(("cpu", "cuda"))


class Ranges:
    """The ranges of some tensors. To be made with grad mode off, without tangents, and with no mode of the program's in
    force.

    Args:
        tensors: In order; nothing is known of one without numbers that can be asked for.
    """

    def __init__(self, tensors: Iterable[Any]) -> None:
        self._count = 0
        asked: dict[torch.device, tuple[list[int], list[Tensor]]] = {}
        for tensor in tensors:
            numbers = numbers_of(tensor)
            if numbers is not None:
                places, values = asked.setdefault(numbers.device, ([], []))
                places.append(self._count)
                values += torch.aminmax(numbers)
            self._count += 1
        self.is_free = all(device.type == "cpu" for device in asked)
        """Whether no device is waited for when they are read."""
        # (numbers of the CPU's are read one by one, which is quicker than to put them together)
        self._asked = [
            (places, values if device.type == "cpu" else torch.stack([value.double() for value in values]))
            for device, (places, values) in asked.items()
        ]

    def read(self) -> list[Range | None]:
        """The range of each tensor in order; None where nothing is known of it."""
        found: list[Range | None] = [None] * self._count
        for places, values in self._asked:
            numbers = [value.item() for value in values] if isinstance(values, list) else values.tolist()
            for position, place in enumerate(places):
                found[place] = (numbers[2 * position], numbers[2 * position + 1])
        return found


def remarkable_ranges(tensors: Iterable[Any], *, waits: bool = True) -> list[Range | None]:
    """The range of each tensor that may hold a NaN or an infinity, or zeros alone; None of others.

    The sum of finite numbers tells most of the others, in a quarter of the time. To be called as ranges are made.

    Args:
        tensors: In order; nothing is known of one without numbers that can be asked for.
        waits: Whether a device may be waited for; if not, and one has to be, nothing is returned.
    """
    several = [numbers_of(tensor) for tensor in tensors]
    if not waits and any(numbers is not None and numbers.device.type != "cpu" for numbers in several):
        return []
    asked = [numbers is not None and not _has_plain_sum(numbers) for numbers in several]
    found = iter(Ranges(compress(several, asked)).read())
    return [next(found) if is_asked else None for is_asked in asked]


def _has_plain_sum(numbers: Tensor) -> bool:
    total = numbers.sum().item()
    return total != 0 and math.isfinite(total)


class Norms:
    """The 2-norms of some tensors. To be made as ranges are.

    Args:
        tensors: In order; nothing is known of one without numbers that can be asked for.
    """

    def __init__(self, tensors: Iterable[Any]) -> None:
        self._count = 0
        asked: dict[tuple[torch.device, torch.dtype], tuple[list[int], list[Tensor]]] = {}
        for tensor in tensors:
            numbers = numbers_of(tensor)
            if numbers is not None:
                places, values = asked.setdefault((numbers.device, numbers.dtype), ([], []))
                places.append(self._count)
                values.append(numbers)
            self._count += 1
        self._asked = [(places, torch.stack(_norms(values, dtype))) for (_, dtype), (places, values) in asked.items()]

    def read(self) -> list[float | None]:
        """The norm of each tensor in order, to six digits; None where nothing is known of it."""
        found: list[float | None] = [None] * self._count
        for places, values in self._asked:
            for place, norm in zip(places, values.tolist(), strict=True):
                found[place] = float(f"{norm:.6g}")
        return found


def _norms(values: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """The norms of tensors of one type: of many half numbers they are beyond what a half can hold."""
    if dtype in _HALVES:
        return [torch.linalg.vector_norm(one, dtype=torch.float32) for one in values]
    return list(torch._foreach_norm(values))


def numbers_of(tensor: Any) -> Tensor | None:
    """The numbers of a tensor as real ones in a dense tensor; None where it has none that can be asked for."""
    if type(tensor) not in PLAIN or tensor.dtype not in _DTYPES or tensor.device.type not in _DEVICES:
        return None
    if is_wrapped(tensor):  # has no numbers of its own
        return None
    if tensor.layout is torch.sparse_coo:
        tensor = tensor._values()
    if tensor.layout is not torch.strided or not tensor.numel():
        return None
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def is_bad(values: Range | None) -> bool:
    """Whether a range is known and has a NaN or an infinity."""
    return values is not None and not (math.isfinite(values[0]) and math.isfinite(values[1]))


def is_zero(values: Range | None) -> bool:
    """Whether a range is known and is zero."""
    return values is not None and values[0] == 0 == values[1]
