"""Gradients that one statement multiplies or divides by a number twice before a step: two calls lead to it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, last_before, ops_between
from gradscope.analysis.index import Index
from gradscope.frames.calls.two_call_sites import TwoCallSites, two_call_sites
from gradscope.recording.rows import EventKind

ROUNDS = 2
"""Gradients that were scaled twice from which on it is reported."""
_SCALES = {"Tensor.div_": "divides", "Tensor.mul_": "multiplies"}


class ScaledTwice(NamedTuple):
    """What one statement scales."""

    leaves: tuple[int, ...]
    op: int
    """The last time that it did so again."""
    does: str
    by: float
    times: int
    file: int
    called: TwoCallSites


def scaled_twice(index: Index, events: Events, lives: GradientLives) -> Iterator[ScaledTwice]:
    """One for each statement; no other write is between the two, and a step takes what comes of it."""
    events_by_op = {event.subject: event.detail.get("by") for event in events.of(EventKind.FACTOR)}
    factors = {op: by for op, by in events_by_op.items() if isinstance(by, float) and index.method(op) in _SCALES}
    statements = {index.op_statement[op] for op, by in factors.items() if abs(by) != 1}
    found: dict[int, dict[int, list[tuple[int, float]]]] = {}
    for leaf, put in lives.put.items() if statements else ():
        for first, second in pairwise(put):
            statement, known = index.op_statement[first], factors.get(first)
            if statement not in statements or statement != index.op_statement[second]:
                continue
            # A number is noted of the first runs, then ever more rarely.
            if known == factors.get(second) and _is_one_gradient(lives, leaf, first, second):
                found.setdefault(statement, {}).setdefault(leaf, []).append((second, known or 0.0))
    found = {at: leaves for at, leaves in found.items() if any(by for again in leaves.values() for _, by in again)}
    for statement, leaves in found.items():
        where, every = index.statements[statement], [one for again in leaves.values() for one in again]
        op, by = max(op for op, _ in every), max((at, by) for at, by in every if by)[1]
        times = max(index.times(second for second, _ in again) for again in leaves.values())
        called = two_call_sites(index.recording.files[where.file].text, index.op_line(op)) if where.file >= 0 else None
        if called is not None and times >= ROUNDS:
            yield ScaledTwice(tuple(leaves), op, _SCALES[index.method(op)], by, times, where.file, called)


def _is_one_gradient(lives: GradientLives, leaf: int, first: int, second: int) -> bool:
    """Whether a pass gave a gradient before two ops, nothing but them changed it, and a step then took it."""
    passes, steps, cleared = (of.get(leaf, []) for of in (lives.passes, lives.steps, lives.cleared))
    if any(ops_between(ops, first - 1, second) for ops in (passes, steps, cleared)):
        return False
    if ops_between(lives.put.get(leaf, []), first, second) or last_before(passes, first) < 0:
        return False
    if last_before(steps, first) > last_before(passes, first):
        return False
    step, following = first_after(steps, second), first_after(passes, second)
    return step >= 0 and not 0 <= following < step
