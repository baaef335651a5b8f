"""Statistics of a module that ``load_state_dict`` did not bring along, as they are plain tensors on it.

The module that a state was loaded into computes with what its constructor made, while the one that was saved had
updated its own. What starts anew for each sequence (a hidden state) is updated in the loaded module as well, and is no
such.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.index import Index
from gradscope.frames.modules.plain_statistics import PlainStatistic, plain_statistics
from gradscope.recording import NONE

UPDATES = 3
"""Updates before a state was loaded, from which on it was a statistic."""
_LOADS = "nn.Module.load_state_dict"


class UnsavedStatistic(NamedTuple):
    """One attribute."""

    file: int
    statistic: PlainStatistic
    tensor: int
    """What the constructor of the loaded module made."""
    load: int
    used: int
    """The first op of the class that took it after that."""
    updates: tuple[int, ...]
    """The ops that updated the others of its name before."""


def left_out_of_state(index: Index, names: dict[int, list[tuple[int, int, int]]]) -> Iterator[UnsavedStatistic]:
    """Those of one recording, at most one for each attribute.

    Args:
        index: The recording.
        names: For each tensor the names under which it was seen, with op and span.
    """
    loads = index.calls_of_methods(_LOADS)
    for number, file in enumerate(index.recording.files):
        for one in plain_statistics(file.text) if file.is_user and loads else ():
            found = next((left for load in loads if (left := _left_out(index, names, number, one, load))), None)
            if found is not None:
                yield found


def _left_out(
    index: Index, names: dict[int, list[tuple[int, int, int]]], file: int, one: PlainStatistic, load: int
) -> UnsavedStatistic | None:
    updates = [op for lines in one.updates for op in _ops_at(index, file, lines)]
    before = sorted(op for op in updates if op < load)
    if len(before) < len(updates) or sum(_takes(index, names, op, one.name) for op in before) < UPDATES:
        return None
    inside, made_in = set(_ops_at(index, file, one.lines)), set(_ops_at(index, file, one.made))
    loaded = {root for tensor in list(index.uses.of(load))[::2] for root in _roots(index, names, tensor)}
    for tensor, rows in names.items():
        is_it = any(index.recording.text(name).endswith(f".{one.name}") for name, _, _ in rows)
        if not is_it or index.made_by(tensor) not in made_in:
            continue
        users = list(index.users.of(tensor))
        used = next((op for op in users if op > load and op in inside), NONE)
        roots = _roots(index, names, tensor)
        if used >= 0 and set(users).isdisjoint(updates) and (not roots or not roots.isdisjoint(loaded)):
            return UnsavedStatistic(file, one, tensor, load, used, tuple(before))
    return None


def _ops_at(index: Index, file: int, lines: tuple[int, int]) -> list[int]:
    """The ops of the statements at some lines of a file."""
    inside = {
        number for number, one in enumerate(index.statements) if one.file == file and lines[0] <= one.line <= lines[1]
    }
    return [op for op, statement in enumerate(index.op_statement) if statement in inside]


def _takes(index: Index, names: dict[int, list[tuple[int, int, int]]], op: int, name: str) -> bool:
    """Whether an op was given what is called so."""
    return any(
        index.recording.text(known).endswith(f".{name}")
        for tensor in index.uses.of(op)
        for known, _, _ in names.get(tensor, ())
    )


def _roots(index: Index, names: dict[int, list[tuple[int, int, int]]], tensor: int) -> set[str]:
    """What the names of a tensor begin with, other than the object of a method: ``net`` of ``net.0.scale``."""
    return {index.recording.text(name).partition(".")[0] for name, _, _ in names.get(tensor, ())} - {"self"}
