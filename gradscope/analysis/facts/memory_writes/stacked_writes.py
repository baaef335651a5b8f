"""Noise or a factor that is put into stored data in place, again and again: each time on top of what was there.

``x = self.data[i]; x += noise`` in ``__getitem__``: ``x`` is a view, and what the data set holds is changed for good.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.losses.factors import called, maker
from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.index import Index
from gradscope.recording.flags import GRADIENT, PARAMETER

TIMES = 2
"""Writes to the same bytes from which on it is reported."""

_PREPARES = re.compile(
    r"__getitem__$|forward$|augment|jitter|noise|noisy|corrupt|perturb|normali|scale|transform|prepro"
)
"""Functions that are to give a changed copy of what they are given."""

_RANDOM = re.compile(r"(torch\.|Tensor\.)(rand|normal|bernoulli|poisson)|Tensor\.(normal_|uniform_|bernoulli_)")
_ADDS, _FACTORS = ("add", "sub"), ("mul", "div")
_STEPS = 4
"""Calls from what is added back to where it was drawn."""


class DataWrittenAgain(NamedTuple):
    """The writes of one line."""

    op: int
    """The last of them."""
    view: int
    """The tensor that was written."""
    base: int
    """The one that holds the data."""
    is_random: bool
    times: int
    """Of what was written most often."""


def data_written_again(index: Index, sharing: StorageGroups) -> Iterator[DataWrittenAgain]:
    """Lines that write into views of one tensor, the same bytes several times, which nothing else writes."""
    storages, flags = (index.recording.tensors.column(name) for name in ("storage", "flags"))
    writes: dict[int, list[tuple[int, int]]] = {}
    for op, tensor, _, _ in writes_by_program(index):
        if storages[tensor] >= 0:
            writes.setdefault(storages[tensor], []).append((op, tensor))
    for storage, all_of_it in writes.items():
        by_line: dict[int, list[tuple[int, int]]] = {}
        for op, tensor in all_of_it:
            by_line.setdefault(index.op_statement[op], []).append((op, tensor))
        base = min(sharing.tensors_on.get(storage, ()), default=-1)
        if base < 0 or flags[base] & (PARAMETER | GRADIENT) or len({_kind(index, op) for op, _ in all_of_it}) > 2:
            continue
        if all(_kind(index, op) for op, _ in all_of_it) and all(_is_of_preparing(index, op) for op, _ in all_of_it):
            for line in by_line.values():
                found = _of_line(index, sharing, line, base)
                if found is not None:
                    yield found


def _is_of_preparing(index: Index, op: int) -> bool:
    return _PREPARES.search(index.op_place(op).function.lower()) is not None


def _of_line(index: Index, sharing: StorageGroups, writes: list[tuple[int, int]], base: int) -> DataWrittenAgain | None:
    times: dict[object, int] = {}
    for _, tensor in writes:
        if tensor == base or index.made_by(tensor) < 0:
            return None
        place = sharing.range_of(tensor)
        times[place] = times.get(place, 0) + 1
    op, view = writes[-1]
    most = max(times.values())
    return DataWrittenAgain(op, view, base, _kind(index, op) == "random", most) if most >= TIMES else None


def _kind(index: Index, op: int) -> str:
    """``random`` where a call adds what was drawn, ``factor`` where it multiplies with a number; empty for others."""
    name, uses = called(index, op), list(index.uses.of(op))
    if name in _FACTORS and len(uses) == 1:
        return "factor"
    if name not in _ADDS or len(uses) != 2:
        return ""
    return "random" if is_random(index, op) else ""


def is_random(index: Index, op: int) -> bool:
    """Whether the second operand of a call was drawn, or is such a tensor times a number."""
    uses = list(index.uses.of(op))
    tensor = uses[1] if len(uses) > 1 else -1
    for _ in range(_STEPS if tensor >= 0 else 0):
        made = maker(index, tensor)
        if made < 0:
            return False
        if is_drawing(index, made):
            return True
        taken = list(index.uses.of(made))
        if len(taken) != 1:
            return False
        tensor = taken[0]
    return False


def is_drawing(index: Index, op: int) -> bool:
    """Whether an op gives random numbers."""
    return _RANDOM.match(index.func(op)) is not None
