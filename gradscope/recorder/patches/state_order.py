"""Whether a state that an optimizer loads is, by position, that of other parameters than those which it holds.

A state knows parameters by their place alone. So when one is taken, the first values of each parameter, and of its
running means, are remembered as a number; when a state with these means is loaded, each parameter that holds the values
that another place had then tells that the order is another one. Only what is on the CPU is looked at.
"""

from __future__ import annotations

from collections import deque
from ctypes import string_at
from typing import Any, NamedTuple
from zlib import crc32

from torch import Tensor
from torch.optim import Optimizer

from gradscope.recorder.state.tensors_in import PLAIN

STATES = 32
"""States that are remembered, the last ones."""

PARAMETERS = 1024
"""Parameters of one optimizer: where it has more, none is looked at."""

ELEMENTS = 1 << 12
"""The first elements of a tensor, which are looked at."""


class _StateTaken(NamedTuple):
    parameters: tuple[int, ...]
    means: tuple[int, ...]


_taken: deque[_StateTaken] = deque(maxlen=STATES)


def forget() -> None:
    """Another recording begins."""
    _taken.clear()


def take(optimizer: Optimizer, state: Any) -> None:
    """Remember what an optimizer's state is of, when it is taken."""
    held, means = _held(optimizer), _means(state)
    if held and len(means) == len(held):
        _taken.append(_StateTaken(tuple(map(_number, held)), means))


def mixed_up(optimizer: Optimizer, state: Any) -> list[Any]:
    """The parameters of an optimizer whose place in a state that it is about to load is that of other ones."""
    held, means = _held(optimizer), _means(state)
    taken = next((one for one in reversed(_taken) if one.means == means), None)
    if not held or taken is None or len(taken.parameters) != len(held):
        return []
    now = tuple(map(_number, held))
    return [
        one
        for one, number, then in zip(held, now, taken.parameters, strict=True)
        if number != then and taken.parameters.count(number) == now.count(number) == 1
    ]


def _held(optimizer: Optimizer) -> list[Any]:
    held = [one for group in optimizer.param_groups for one in group["params"]]
    is_looked_at = 1 < len(held) <= PARAMETERS and all(type(one) in PLAIN and one.is_cpu for one in held)
    return held if is_looked_at and all(one.numel() and not one.is_sparse for one in held) else []


def _means(state: Any) -> tuple[int, ...]:
    """For each parameter of a state what stands for its tensors; nothing where one has none."""
    groups = state.get("param_groups") if isinstance(state, dict) else None
    if not isinstance(groups, list) or not isinstance(state.get("state"), dict):
        return ()
    places = [place for group in groups for place in group["params"]]
    found = []
    for kept in (state["state"].get(place) for place in places):
        tensors = [one for one in kept.values() if _is_looked_at(one)] if isinstance(kept, dict) else []
        if not tensors:
            return ()
        found.append(hash(tuple(map(_number, tensors))))
    return tuple(found) if len(set(found)) == len(found) else ()


def _is_looked_at(value: Any) -> bool:
    return isinstance(value, Tensor) and type(value) in PLAIN and value.is_cpu and value.dim() > 0


def _number(tensor: Any) -> int:
    values = tensor.detach().reshape(-1)[:ELEMENTS].contiguous()
    return crc32(string_at(values.data_ptr(), values.numel() * values.element_size()))
