"""Modules that a loop keeps as the best so far, without a copy, and that its later rounds go on training."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.index import Index
from gradscope.frames.calls.reached_functions import function_named, named_from
from gradscope.frames.names.best_kept import BestKept, best_kept
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import OpKind

ROUNDS = 2
"""Steps of one line, within the loop, from which on its rounds train."""


class BestIsTrained(NamedTuple):
    """One such assignment."""

    file: int
    kept: BestKept
    step: int
    """The last step of the loop that wrote the module's parameters."""
    tensors: tuple[int, ...]


def best_is_trained(index: Index, held: dict[int, list[tuple[int, int, int]]]) -> list[BestIsTrained]:
    """All of a recording.

    Args:
        index: The recording.
        held: For each tensor the names under which it was seen, with op and span.
    """
    found, flags = list[BestIsTrained](), index.recording.tensors.column("flags")
    for number, file in enumerate(index.recording.files):
        for kept in best_kept(file.text) if file.is_user else ():
            steps = _steps_within(index, number, kept)
            own = {
                tensor
                for tensor in ({use for op in steps for use in index.uses.of(op)} if len(steps) >= ROUNDS else ())
                if flags[tensor] & PARAMETER
                and any(index.recording.text(name).startswith(f"{kept.of}.") for name, _, _ in held.get(tensor, ()))
            }
            stepped = [op for op in steps if not own.isdisjoint(index.uses.of(op))]
            if len(stepped) >= ROUNDS:
                last = stepped[-1]
                found.append(BestIsTrained(number, kept, last, tuple(sorted(own.intersection(index.uses.of(last))))))
    return found


def _steps_within(index: Index, file: int, kept: BestKept) -> list[int]:
    first, last = kept.loop
    called = named_from(index.recording.files[file].text, first, last)
    found = []
    for op in index.of_kind(OpKind.STEP):
        place = index.statements[index.op_statement[op]]
        function = function_named(index.recording.text(place.function))
        if place.file == file and (first <= place.line <= last or function in called):
            found.append(op)
    return found
