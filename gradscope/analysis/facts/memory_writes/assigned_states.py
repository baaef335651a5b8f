"""States that ``load_state_dict(…, assign=True)`` made parameters of, and that were used again after these had moved.

Such a call copies nothing: the module's new parameters lie on the memory of the state's tensors. A state that is loaded
once and forgotten may be trained on; two modules that are trained on it change each other, and one that is loaded again
does not have the values that it had.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.modules.assigned_loads import assigning_loads
from gradscope.analysis.facts.writes import all_writes, is_step
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER

_COMPARED = re.compile(
    r"(Tensor|torch)\.(sub|subtract|rsub|__rsub__|equal|allclose|isclose|eq|ne|dist|__eq__|__ne__|copy_)"
    r"|torch\._foreach_(sub|copy_)|F\.mse_loss|nn\.Module\.load_state_dict"
)
"""Calls whose result is known beforehand where both tensors are the same memory."""


class AssignedState(NamedTuple):
    """One block of memory of a state."""

    load: int
    """The call that put parameters on it: the last one that may have."""
    parameters: tuple[int, ...]
    """Those that are on it, in the order in which they were first seen."""
    step: int
    """The step that changed it."""
    read: int
    """The call that took the state's own tensor afterwards together with a parameter on it; NONE: several parameters
    are."""


def assigned_states(index: Index) -> list[AssignedState]:
    """One for each block that was used as if it had kept the values of the state."""
    loads = assigning_loads(index)
    if not loads:
        return []
    tensors = index.recording.tensors
    flags, seen_at, on = (tensors.column(name) for name in ("flags", "op", "storage"))
    parameters: dict[int, list[int]] = {}
    for tensor, is_one in enumerate(flags):
        if is_one & PARAMETER and on[tensor] >= 0 and seen_at[tensor] >= loads[0]:
            parameters.setdefault(on[tensor], []).append(tensor)
    steps: dict[int, list[int]] = {}
    for op, tensor, _, _ in all_writes(index):
        if op < index.op_count and is_step(index, op):
            steps.setdefault(tensor, []).append(op)
    found = []
    for storage, group in parameters.items():
        stepped = [tensor for tensor in group if tensor in steps]
        if stepped and index.recording.storages.column("op")[storage] <= loads[-1]:
            found += list(_used_again(index, loads, group, steps))[:1] or list(_read(index, loads, stepped, steps))[:1]
    return found


def _used_again(
    index: Index, loads: list[int], group: list[int], steps: dict[int, list[int]]
) -> Iterator[AssignedState]:
    """Two parameters of which both were stepped, or the second was loaded when the first had been.

    Where the state of the first was taken before the second came, the second was to go on from there.
    """
    seen_at = index.recording.tensors.column("op")
    for number, first in enumerate(group):
        for second in group[number + 1 :] if first in steps else ():
            load = loads[bisect_right(loads, seen_at[second]) - 1]
            is_later = steps[first][0] < load <= seen_at[second] and index.layout_at(first, load) == index.layout_at(
                second, load
            )
            if not (second in steps or is_later) or _taken_on(index, first, steps[first][0], seen_at[second]):
                continue
            same = [one for one in group if one in steps or one == second]
            yield AssignedState(load, tuple(same), steps[first][-1], NONE)


def _taken_on(index: Index, tensor: int, begin: int, end: int) -> bool:
    """Whether the module's own state was asked for between two ops."""
    return any(begin < op <= end and index.func(op).endswith("state_dict") for op in index.users.of(tensor))


def _read(index: Index, loads: list[int], stepped: list[int], steps: dict[int, list[int]]) -> Iterator[AssignedState]:
    """The state's own tensor, taken together with the parameter when that had moved."""
    tensors = index.recording.tensors
    flags, seen_at, on = (tensors.column(name) for name in ("flags", "op", "storage"))
    for parameter in stepped:
        load = loads[bisect_right(loads, seen_at[parameter]) - 1]
        for op in index.users.of(parameter)[bisect_left(index.users.of(parameter), steps[parameter][0]) :]:
            if not _COMPARED.fullmatch(index.func(op)) or op <= steps[parameter][0]:
                continue
            others = [
                use
                for use in index.uses.of(op)
                if on[use] == on[parameter] and not flags[use] & PARAMETER and seen_at[use] < load
            ]
            if others:
                before = steps[parameter][bisect_left(steps[parameter], op) - 1]
                yield AssignedState(load, (parameter,), before, op)
