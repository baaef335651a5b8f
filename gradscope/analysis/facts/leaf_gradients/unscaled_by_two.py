"""Gradients that one GradScaler divides twice before a step, since it is given two objects for one optimizer.

A scaler keeps by the object that it is given whether its gradients were divided: ``unscale_(wrapper)`` and
``step(wrapper.optimizer)`` are two optimizers to it, and both have the same parameters.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, last_before, ops_between
from gradscope.analysis.index import Index
from gradscope.recording.rows import EventKind

ROUNDS = 2
"""Gradients that were divided twice from which on it is reported."""
_DIVIDING = ("amp.GradScaler.unscale_", "amp.GradScaler.step")
_LIMITS = ("nn.utils.clip_grad", "Tensor.clamp_", "Tensor.clip_")
"""What may write a gradient between the two: it makes it smaller, or leaves it."""


class UnscaledByTwo(NamedTuple):
    """What two places divide, each for an object of its own."""

    leaves: tuple[int, ...]
    first: Happened
    again: Happened
    """The last two times."""
    times: int


def unscaled_by_two(index: Index, events: Events, lives: GradientLives) -> list[UnscaledByTwo]:
    """One for each pair of places; a pass gave each gradient before, and a step took it after."""
    divided = {
        event.op - 1: event  # (it is noted when the call that divides was made)
        for event in events.of(EventKind.GRAD_SCALER)
        if event.detail.get("call") == "unscale_" and index.func(event.op - 1) in _DIVIDING
    }
    objects = {(event.subject, event.detail.get("optimizer")) for event in divided.values()}
    if len(objects) < 2:
        return []
    found: dict[tuple[int, int], dict[int, list[tuple[int, int]]]] = {}
    for leaf, put in lives.put.items():
        for first, again in pairwise([op for op in put if op in divided]):
            one, other = divided[first], divided[again]
            is_of_two = one.subject == other.subject and one.detail.get("optimizer") != other.detail.get("optimizer")
            if is_of_two and _is_one_gradient(index, lives, leaf, first, again):
                pair = index.op_statement[first], index.op_statement[again]
                found.setdefault(pair, {}).setdefault(leaf, []).append((first, again))
    result = []
    for leaves in found.values():
        first, again = max(pairs[-1] for pairs in leaves.values())
        times = max(index.times(again for _, again in pairs) for pairs in leaves.values())
        if times >= ROUNDS:
            result.append(UnscaledByTwo(tuple(leaves), divided[first], divided[again], times))
    return result


def _is_one_gradient(index: Index, lives: GradientLives, leaf: int, first: int, again: int) -> bool:
    """Whether a pass gave a gradient before two ops, nothing made it larger between them, and a step then took it."""
    passes, steps, cleared, put = (of.get(leaf, []) for of in (lives.passes, lives.steps, lives.cleared, lives.put))
    if any(ops_between(ops, first - 1, again) for ops in (passes, steps, cleared)):
        return False
    if any(not index.func(op).startswith(_LIMITS) for op in ops_between(put, first, again)):
        return False
    given = last_before(passes, first)
    if given < 0 or last_before(steps, first) > given:
        return False
    step, following = first_after(steps, again), first_after(passes, again)
    return step >= 0 and not 0 <= following < step
