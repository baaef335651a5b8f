"""Rounds of a ``GradScaler`` that no ``update()`` closed, so that it refused the call that came again in the next."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.optimizers import seen_optimizers
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, ops_between
from gradscope.analysis.index import Index
from gradscope.recording.rows import EventKind

_UPDATE = "amp.GradScaler.update"


class UnclosedRound(NamedTuple):
    """A round that was still open when the scaler refused a call of the next one."""

    updates: int
    """How often a scaler was updated before."""
    is_added_to: bool
    """Whether it went without a step, and none of its gradients was cleared for the next: the rounds add up."""


def unclosed_round(index: Index, events: Events, lives: GradientLives, method: str) -> UnclosedRound | None:
    """What is known of the round before the one in which the program ended; None where that is not sure.

    The very call that was refused ran before, for one optimizer, and no update came since. A pass in between tells the
    rounds apart: without one the call was made twice in a round, and no update is missing.

    Args:
        index: The recording, which ended by a refusal.
        events: Its events.
        lives: Its gradients.
        method: What was refused: ``unscale_`` or ``step``.
    """
    outcome, spans, end = index.recording.info.outcome, index.recording.spans, index.op_count
    updates = index.calls_of(lambda name: name == _UPDATE)
    since = updates[-1] if updates else -1
    of_scalers = events.of(EventKind.GRAD_SCALER)
    calls = [
        one
        for one in of_scalers
        if one.detail.get("call") == method and one.op > since and one.span >= 0
        if (spans[one.span].file, spans[one.span].line) == (outcome.file, outcome.line)
    ]
    if method == "step":  # (it is reported when it begins, and the one that was refused did)
        del calls[-1:]
    if not calls or len({(one.subject, one.detail.get("optimizer")) for one in calls}) > 1:
        return None
    of_call, began = calls[-1].detail.get("optimizer"), calls[-1].op - 1
    optimizers = (one for one in seen_optimizers(index, events) if one.made.subject == of_call)
    tensors = next((one.tensors for one in optimizers), frozenset[int]())
    if not any(ops_between(lives.passes.get(tensor, []), began, end) for tensor in tensors):
        return None
    is_cleared = any(ops_between(lives.cleared.get(tensor, []), began, end) for tensor in tensors)
    is_stepped = any(one.detail.get("call") == "step" and one.op > began for one in of_scalers)
    return UnclosedRound(index.times(updates), not is_cleared and not is_stepped)
