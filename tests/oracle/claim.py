"""One statement of a report, and whether torch bears it out."""

from __future__ import annotations

from typing import NamedTuple


class Claim(NamedTuple):
    """One statement of a report."""

    kind: str
    """What it is about."""
    line: int
    said: str
    held: bool | None
    """None: it could not be decided."""
    truth: str = ""

    def __str__(self) -> str:
        return f"line {self.line}: [{self.kind}] said: {self.said}; torch: {self.truth}"


def equal(kind: str, line: int, what: str, said: object, truth: object) -> Claim:
    """A claim that a value is what torch says it is."""
    return Claim(kind, line, f"{what} is {said!r}", said == truth, repr(truth))
