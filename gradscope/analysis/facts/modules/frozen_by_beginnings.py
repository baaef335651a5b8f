"""Parameters that a loop froze by their names, for the test of these ends within a number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.modules.names_in_modules import names_in_modules
from gradscope.analysis.facts.modules.switched_off import switched_off
from gradscope.analysis.index import Index
from gradscope.frames.modules.freezing_loops import FreezingLoop, freezing_loops
from gradscope.frames.modules.numbers_cut_short import CutNumber, cut_number
from gradscope.recording import NONE


class FrozenByBeginning(NamedTuple):
    """One loop."""

    file: int
    loop: FreezingLoop
    cut: dict[int, CutNumber]
    """The parameters that it froze besides, in order, and what they were taken for."""
    rows: list[int]
    """The rows of ``changes`` by which they do not require grad."""
    passed: int
    """The last pass that they took part in so."""


def frozen_by_beginnings(index: Index, passed: dict[int, int]) -> Iterator[FrozenByBeginning]:
    """One for each loop of the program's files that froze such, and others that it was to freeze.

    Args:
        index: The recording.
        passed: By parameter that took part in passes without requiring grad, the last of these.
    """
    if not passed:
        return
    names = {tensor: name for tensor, (_, name) in names_in_modules(index).items()}
    all_names = frozenset(names.values())
    for file, source in enumerate(index.recording.files):
        for loop in freezing_loops(source.text) if source.is_user else ():
            if loop.names is None or not loop.names.of_parameters:
                continue
            frozen = {
                tensor: row
                for tensor in sorted(passed.keys() & names.keys())
                if (row := _row(index, tensor, file, loop)) >= 0
            }
            cut = {tensor: why for tensor in frozen if (why := cut_number(loop.names, names[tensor], all_names))}
            # The part that was looked for was frozen by the same loop, or this is about other names.
            held = [names[tensor] for tensor in frozen if tensor not in cut]
            cut = {tensor: why for tensor, why in cut.items() if any(_is_of(name, why.meant) for name in held)}
            if cut:
                last = max(cut, key=passed.__getitem__)
                yield FrozenByBeginning(file, loop, cut, [frozen[tensor] for tensor in cut], passed[last])


def _row(index: Index, tensor: int, file: int, loop: FreezingLoop) -> int:
    """The change by which a parameter does not require grad, where the loop made it; else NONE."""
    row = switched_off(index, tensor)
    if row < 0:
        return NONE
    statement = index.statements[index.op_statement[index.recording.changes[row].op]]
    is_it = statement.file == file and loop.sets[0] <= statement.line <= loop.sets[1]
    return row if is_it else NONE


def _is_of(name: str, part: str) -> bool:
    return name.startswith(part) and not name[len(part) : len(part) + 1].isdigit()
