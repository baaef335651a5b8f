"""Parameters that were frozen for the turn of another network in the first round, and have had no turn since.

``D.requires_grad_(False)`` before the generator's pass, in each round, and nothing that switches it on again before
the discriminator's own: its optimizer made one step, or goes on without gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, ops_between
from gradscope.analysis.facts.passes.passes_by_step import PassesByStep
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording.rows import OpKind

ROUNDS = 3
"""Times that they were frozen, of which the first alone found them trained."""
_PASSES = (OpKind.BACKWARD, OpKind.GRAD)


class FrozenForTurn(NamedTuple):
    """One parameter."""

    tensor: int
    change: int
    """The row of ``changes`` that says so."""
    op: int
    """The call that froze it."""
    turn: int
    """The first pass after it, through the parameter, for others."""
    own: int
    """The last pass that gave the parameter a gradient."""
    passes: tuple[int, ...]
    """Those that began at the same line, went through what it computed, and gave it none."""
    uses: tuple[int, ...]
    """Where there are none: what used it where that pass had it from."""


def frozen_for_turns(
    index: Index, lives: GradientLives, by_step: PassesByStep, events: Events
) -> Iterator[FrozenForTurn]:
    """Each that is left so until the end."""
    all_passes = index.of_kind(*_PASSES)
    for tensor in lives.steps:
        rows = index.changed_ops.get(tensor, [])
        if len(rows) != 1:
            continue  # (what was switched on again once had turns, and may have had its last)
        change = index.recording.changes[rows[0]]
        if change.before and not change.after and lives.steps[tensor][0] < change.op:
            found = _of(index, lives, by_step, events, tensor, rows[0], all_passes)
            if found is not None:
                yield found


def _of(
    index: Index,
    lives: GradientLives,
    by_step: PassesByStep,
    events: Events,
    tensor: int,
    row: int,
    all_passes: list[int],
) -> FrozenForTurn | None:
    frozen, own = index.recording.changes[row].op, lives.passes[tensor]
    users, statement = sorted(set(index.users.of(tensor))), index.op_statement[frozen]
    again = [op for op in users if op > frozen and index.op_statement[op] == statement]
    if statement == NOWHERE or own[-1] > frozen or len(again) < ROUNDS - 1:
        return None
    places = {index.op_statement[op] for op in own}
    after = [op for op in all_passes if op > frozen]
    calls = [op for op in users if index.recording.ops.column("kind")[op] == OpKind.CALL]
    took_part = [op for before, op in pairwise((frozen, *after)) if ops_between(calls, before, op)]
    turn = took_part[0] if took_part else -1
    beside = {one for event in events.in_optimizers.get(tensor, ()) for one in event.tensors}
    stepped = by_step.updated(by_step.step_after(turn))
    is_of_others = turn == after[0] and index.op_statement[turn] not in places if after else False
    if not is_of_others or not stepped or not beside.isdisjoint(stepped):
        return None
    passes = tuple(op for op in took_part if index.op_statement[op] in places)
    here = {index.op_statement[op] for op in calls if op < own[-1]}
    here -= {index.op_statement[op] for op in ops_between(calls, frozen, turn)}
    uses = tuple(op for op in calls if op > turn and index.op_statement[op] in here)
    if len(passes) < ROUNDS - 1 and (passes or len(uses) < ROUNDS - 1):
        return None
    return FrozenForTurn(tensor, row, frozen, turn, own[-1], passes, uses)
