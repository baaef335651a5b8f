"""What reports are known to say that is not so: one entry a cause, each with a program that shows it.

The generated programs leave out the pieces of these entries. An entry whose program no longer shows it fails its test:
it is to be taken out, its program goes to :mod:`.once_false`, and its pieces come back.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple


class KnownFalse(NamedTuple):
    """One cause of false statements."""

    reason: str
    claim: str
    """Kind of the claim that torch refutes in the program."""
    program: str
    pieces: tuple[str, ...] = ()
    """Pieces of generated programs that bring it about."""
    only_claim: bool = False
    """Whether the pieces stay, and only claims of this kind are not looked at in programs that have them."""
    healthy: bool = False
    """Whether the program does only what it means to, so that a warning is false by itself."""


KNOWN_FALSE: dict[str, KnownFalse] = {}


def pieces_left_out() -> frozenset[str]:
    """The pieces that generated programs do not use."""
    return frozenset(piece for entry in KNOWN_FALSE.values() for piece in entry.pieces if not entry.only_claim)


def claims_left_out(pieces: Collection[str]) -> frozenset[str]:
    """The kinds of claims that are not looked at in a generated program of some pieces."""
    return frozenset(
        entry.claim for entry in KNOWN_FALSE.values() if entry.only_claim and not set(entry.pieces).isdisjoint(pieces)
    )
