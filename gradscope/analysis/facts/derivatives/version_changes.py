"""Derivatives that differ between versions of torch: what each version was measured to give.

The tests measure each row again under the version that they run with. Versions in between two that give the same give
it too; of those between two that differ nothing is known.
"""

from __future__ import annotations

import re
from typing import NamedTuple

Version = tuple[int, int]


class VersionChange(NamedTuple):
    """A derivative that is not the same in all versions."""

    nodes: tuple[str, ...]
    """The nodes that give it."""
    what: str
    """What it is the gradient of, and where: to be followed by "is"."""
    measured: tuple[tuple[Version, str], ...]
    """What it was in which version, oldest first."""
    meaning: str = ""
    """What follows for a program, as a sentence."""

    def under(self, version: str) -> str:
        """What it is under a version; empty where that is not known."""
        wanted = _parsed(version)
        before = [(known, value) for known, value in self.measured if known <= wanted]
        behind = [value for known, value in self.measured if known > wanted]
        if not before:
            return ""
        known, value = before[-1]
        return value if known == wanted or not behind or behind[0] == value else ""


class ChangeSeen(NamedTuple):
    """A derivative that differs between the versions of two runs."""

    what: str
    values: tuple[str, ...]
    """Under the first, and under the second."""
    meaning: str


_OLD, _BEFORE, _SINCE, _NOW = (2, 6), (2, 13), (2, 14), (2, 15)

CHANGES: tuple[VersionChange, ...] = (
    VersionChange(
        ("ClampBackward1", "ClampMinBackward0", "ClampMaxBackward0"),
        "the gradient of clamp where the input is on the bound",
        ((_OLD, "1"), (_BEFORE, "1"), (_SINCE, "0"), (_NOW, "0")),
        "A parameter that is on a bound, from the start or put back onto it, does not leave it where that is 0.",
    ),
    VersionChange(
        ("ClampBackward0", "ClampMinBackward1", "ClampMaxBackward1"),
        "the gradient of clamp with a tensor as bound where both are equal",
        (
            (_OLD, "1 for the input and 0 for the bound"),
            (_BEFORE, "1 for the input and 0 for the bound"),
            (_SINCE, "half for each"),
            (_NOW, "half for each"),
        ),
    ),
    VersionChange(
        ("FmaxBackward0", "FminBackward0"),
        "the gradient of fmax and fmin where both are equal",
        (
            (_OLD, "1 for the first and 0 for the second"),
            (_BEFORE, "1 for the first and 0 for the second"),
            (_SINCE, "half for each"),
            (_NOW, "half for each"),
        ),
    ),
    VersionChange(
        ("FmaxBackward0", "FminBackward0"),
        "the gradient of fmax and fmin for an input that is NaN",
        ((_OLD, "0"), (_BEFORE, "0"), (_SINCE, "1"), (_NOW, "0")),
    ),
    VersionChange(
        ("Atan2Backward0",),
        "the gradient of atan2 where both are 0",
        ((_OLD, "NaN"), (_BEFORE, "0"), (_SINCE, "0")),
    ),
    VersionChange(
        ("HardswishBackward0",),
        "the gradient of hardswish at -3 and 3",
        ((_OLD, "-0.5 and 1.5"), (_BEFORE, "0 and 1"), (_SINCE, "0 and 1")),
    ),
)


def changes_between(node: str, one: str, other: str) -> tuple[ChangeSeen, ...]:
    """What a node of this name gives otherwise under two versions of torch, as far as that was measured."""
    found = []
    for change in CHANGES:
        values = change.under(one), change.under(other)
        if node in change.nodes and all(values) and values[0] != values[1]:
            found.append(ChangeSeen(change.what, values, change.meaning))
    return tuple(found)


def _parsed(version: str) -> Version:
    numbers = re.findall(r"\d+", version)[:2]
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 else (0, 0)
