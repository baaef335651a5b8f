"""Groups of an optimizer that were chosen by whole names, where what is looked for is a part of many names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.modules.names_in_modules import names_in_modules
from gradscope.analysis.facts.optimizers import Optimizer
from gradscope.analysis.index import Index
from gradscope.frames.modules.whole_name_tests import WholeNameTest, whole_name_tests

_NAMES = 2
"""Names that have what is looked for as a part, from which on it was to be one."""


class PartSought(NamedTuple):
    """One choice."""

    file: int
    test: WholeNameTest
    optimizer: Optimizer
    parts: dict[str, list[int]]
    """What equals no name, with the parameters in whose names it is a part; all have the settings of those without."""
    setting: tuple[str, object] | None
    """A setting that they have with these, and that other groups have another value of; None where none differs."""


def parts_sought(index: Index, optimizers: list[Optimizer]) -> Iterator[PartSought]:
    """Those of one recording, by optimizers with several groups that hold parameters of one module alone."""
    several = [one for one in optimizers if len(one.groups) > 1 and one.made.span >= 0]
    names = names_in_modules(index) if several else {}
    for optimizer in several:
        row = index.recording.spans[optimizer.made.span]
        held = {tensor: names[tensor] for tensor in optimizer.tensors if tensor in names}
        if row.file < 0 or len(held) < len(optimizer.tensors) or len({root for root, _ in held.values()}) != 1:
            continue
        own = {tensor: name for tensor, (_, name) in held.items()}
        for test in whole_name_tests(index.recording.files[row.file].text, row.line, row.end_line):
            parts, setting = _parts(optimizer, own, test)
            if parts:
                yield PartSought(row.file, test, optimizer, parts, setting)


def _parts(
    optimizer: Optimizer, names: dict[int, str], test: WholeNameTest
) -> tuple[dict[str, list[int]], tuple[str, object] | None]:
    """What a test looks for in vain, by the settings of the groups: all with the part have those of all without any."""
    settings = [dict(group.detail.get("settings") or {}) for group in optimizer.groups]
    of = {tensor: at for at, group in enumerate(optimizer.groups) for tensor in group.tensors}
    rest = [settings[of[one]] for one, name in names.items() if not any(_has(name, part) for part in test.sought)]
    if not rest or any(one != rest[0] for one in rest):
        return {}, None
    found: dict[str, list[int]] = {}
    for part in test.sought:
        tensors = [one for one, name in names.items() if _has(name, part) and name not in test.sought]
        is_alike = all(settings[of[one]] == rest[0] for one in tensors)
        if len(tensors) >= _NAMES and is_alike and part not in names.values():
            found[part] = sorted(tensors)
    differing = [key for key, value in rest[0].items() if any(one.get(key) != value for one in settings)]
    return found, (differing[0], rest[0][differing[0]]) if differing else None


def _has(name: str, part: str) -> bool:
    """Whether a name has a part, from dot to dot."""
    return f".{part}." in f".{name}."
