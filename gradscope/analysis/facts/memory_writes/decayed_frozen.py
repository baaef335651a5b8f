"""Parameters that require no grad, and that a step of the program's own optimizer multiplies by a number all the same.

Optimizers of torch's leave out what has no gradient. One that decays the weights outside of its test for that shrinks
a frozen part in each step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, last_before
from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.index import Index
from gradscope.recording.rows import EventKind

_SCALES = frozenset(("Tensor.mul_", "Tensor.div_"))
_ADDS = frozenset(("Tensor.add_", "Tensor.sub_"))
STEPS = 2
"""Steps from which on it counts."""


class DecayedFrozen(NamedTuple):
    """A parameter that steps change by a number alone."""

    leaf: int
    optimizer: Optimizer
    op: int
    """The last write."""
    by: float
    """The factor, or the share of itself that is added."""
    is_added: bool
    steps: int


def decayed_frozen(index: Index, events: Events, lives: GradientLives) -> Iterator[DecayedFrozen]:
    """One for each parameter and optimizer that writes it in its own code, and that no pass ever gave a gradient."""
    optimizers = seen_optimizers(index, events)
    begun: dict[int, list[int]] = {}
    for event in events.of(EventKind.STEP) if optimizers else ():
        begun.setdefault(event.subject, []).append(event.op)
    factors = {event.subject: event.detail["by"] for event in events.of(EventKind.FACTOR) if "by" in event.detail}
    found: dict[tuple[int, int], tuple[DecayedFrozen, set[int]]] = {}
    for op, tensor, _, _ in writes_by_program(index) if begun and factors else ():
        by, is_added = factors.get(op), index.method(op) in _ADDS
        if by is None or not (is_added or index.method(op) in _SCALES) or by == (0.0 if is_added else 1.0):
            continue
        block = index.storage_at(tensor, op)
        if is_added and any(index.storage_at(one, op) != block for one in index.uses.of(op)):
            continue
        for optimizer in optimizers:
            own = optimizer.made.subject
            step = last_before(begun.get(own, []), op + 1)
            if step < 0 or not _is_in_code_of(index, op, optimizer.name):
                continue
            for leaf in optimizer.tensors:
                if leaf in lives.passes or index.requires_grad(leaf, op) or index.storage_at(leaf, op) != block:
                    continue
                before = found[leaf, own][1] if (leaf, own) in found else set[int]()
                seen = DecayedFrozen(leaf, optimizer, op, by, is_added, len(before | {step}))
                found[leaf, own] = seen, before | {step}
    yield from (seen for seen, _ in found.values() if seen.steps >= STEPS)


def _is_in_code_of(index: Index, op: int, name: str) -> bool:
    """Whether an op's call stands in a method of a class."""
    return f".{name}." in f".{index.recording.text(index.function_of(op)[1])}"
