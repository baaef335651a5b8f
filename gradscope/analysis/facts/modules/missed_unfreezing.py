"""Parameters that the program looks for by name, to train them, and does not find: their names begin otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.modules.names_in_modules import names_in_modules
from gradscope.analysis.facts.modules.switched_off import switched_off
from gradscope.analysis.index import Index
from gradscope.frames.modules.unfreezing_by_name import Unfreezing, unfreezings


class MissedUnfreezing(NamedTuple):
    """One test of names, and the parameters that it was to find."""

    file: int
    test: Unfreezing
    sought: tuple[tuple[str, int], ...]
    """What no name begins with, with the lines that say so."""
    frozen: dict[int, int]
    """The parameters, and the rows of ``changes`` by which they do not require grad."""
    name: str
    """What one of them is called."""
    passed: int
    """The last pass that they took part in without requiring grad."""


def missed_unfreezings(index: Index, passed: dict[int, int]) -> Iterator[MissedUnfreezing]:
    """One for each test in the program's files.

    Args:
        index: The recording.
        passed: By parameter that took part in passes without requiring grad, the last of these.
    """
    if not passed:
        return
    names = {tensor: name for tensor, (_, name) in names_in_modules(index).items()}
    for file, source in enumerate(index.recording.files):
        for test in unfreezings(source.text) if source.is_user else ():
            found, sought = dict[int, int](), dict[tuple[str, int], None]()
            for tensor in sorted(passed.keys() & names.keys()):
                row = switched_off(index, tensor)
                missed = [one for one in test.names if _misses(test, one[0], names[tensor], names)]
                if (
                    missed
                    and row >= 0
                    and _is_left_so(index, row, file, test)
                    and not _finds(index, tensor, file, test)
                ):
                    found[tensor] = row
                    sought |= dict.fromkeys(missed)
            if found:
                last = max(found, key=passed.__getitem__)
                yield MissedUnfreezing(file, test, tuple(sought), found, names[last], passed[last])


def _is_left_so(index: Index, row: int, file: int, test: Unfreezing) -> bool:
    """Whether the test leaves a parameter as a change has switched it off: where it does so itself, by that change."""
    statement = index.statements[index.op_statement[index.recording.changes[row].op]]
    return test.sets_true or (statement.file == file and statement.line == test.sets)


def _finds(index: Index, tensor: int, file: int, test: Unfreezing) -> bool:
    """Whether the line let the parameter require grad all the same: the loop went over a part of the model."""
    here = (op for op in index.users.of(tensor) if index.requires_grad(tensor, op + 1))
    places = (index.statements[index.op_statement[op]] for op in here)
    return any(one.file == file and one.line == test.sets for one in places)


def _misses(test: Unfreezing, sought: str, name: str, names: dict[int, str]) -> bool:
    """Whether a name is the one that is sought but for what it begins with, and no name is it as it stands."""
    own = {tensor: one.removeprefix(f"{test.behind}.") for tensor, one in names.items()} if test.behind else names
    if test.behind:
        starts = sought.partition(".")[0] != test.behind and _is_it(sought, name.removeprefix(f"{test.behind}."))
        return starts and any(_is_it(sought, one) for one in own.values())
    parts = name.split(".")
    if any(one.startswith(sought) for one in names.values()):
        return False
    at = next((n for n in range(1, len(parts) - 1) if _is_it(sought, ".".join(parts[n:]))), 0)
    return bool(at) and test.of.rpartition(".")[2] not in parts[:at]


def _is_it(sought: str, name: str) -> bool:
    return name == sought or name.startswith(sought if sought.endswith(".") else f"{sought}.")
