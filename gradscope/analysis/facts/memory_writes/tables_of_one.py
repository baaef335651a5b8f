"""Embeddings that ``from_pretrained`` put on the memory of one tensor, and that different optimizers step."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.index import Index
from gradscope.recording.rows import EventKind, OpKind

STEPS = 2
"""Steps of the one from which on a use of the other counts."""


class TablesOfOne(NamedTuple):
    """Two such embeddings."""

    event: Happened
    """Where the second was made."""
    first: int
    second: int
    steps: list[int]
    """Those of the one alone, after which the other was used."""
    used: int


def tables_of_one(index: Index, lives: GradientLives, events: Events) -> Iterator[TablesOfOne]:
    """One for each memory block: both are trained, and one is used when the other's own steps have changed it."""
    by_storage: dict[int, list[Happened]] = {}
    for event in events.of(EventKind.TABLE_MADE):
        if event.tensors and event.tensors[0] in lives.steps:
            by_storage.setdefault(index.storage_at(event.tensors[0], lives.steps[event.tensors[0]][0]), []).append(
                event
            )
    for storage, made in by_storage.items():
        found = (
            _pair(index, lives, event, one.tensors[0], other.tensors[0])
            for position, event in enumerate(made)
            for before in made[:position]
            for one, other in ((before, event), (event, before))
            if before.tensors[0] != event.tensors[0]
        )
        first = next((pair for pair in found if pair is not None), None) if storage >= 0 else None
        if first is not None:
            yield first


def _pair(index: Index, lives: GradientLives, event: Happened, one: int, other: int) -> TablesOfOne | None:
    """That steps of the one alone came before a use of the other, which is trained as well."""
    own = sorted({*lives.steps[one]} - {*lives.steps[other]})
    kinds = index.recording.ops.column("kind")
    for use in (op for op in index.users.of(other) if kinds[op] == OpKind.CALL):
        before = own[: bisect_right(own, use)]
        if len(before) >= STEPS:
            return TablesOfOne(event, one, other, before, use)
    return None
