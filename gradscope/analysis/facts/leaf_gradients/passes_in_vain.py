"""Backward passes whose gradients are cleared each time before a step could apply them, and that nothing used.

``penalty.backward()`` behind the step, where the next round begins with ``zero_grad()``. Other passes give the same
parameters the gradients that their steps apply, so that training goes on as if the loss of these were not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, last_before, ops_between
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind

_CLIPS = frozenset(("nn.utils.clip_grad_norm_", "nn.utils.clip_grad_value_"))
_ROUNDS = 3
"""Steps that were made between such passes from which on it is told: passes before the first one may warm things up."""


class PassesInVain(NamedTuple):
    """The passes of one line, and what became of the gradients of the last of them that a step came after."""

    passes: tuple[int, ...]
    tensors: tuple[int, ...]
    """The parameters that got gradients from it, and that are stepped."""
    before: int
    """The step that came right before it; NONE where the gradients had been cleared in between, or the line was run
    before the first step."""
    cleared: int
    applied: int
    """The pass whose gradients the next step applied."""


class _InVain(NamedTuple):
    tensors: tuple[int, ...]
    before: int
    cleared: int
    applied: int
    step: int


def passes_in_vain(index: Index, lives: GradientLives) -> Iterator[PassesInVain]:
    """One for each line all of whose passes were so; what follows the last step of all may have been meant for one."""
    kinds, by_line = index.recording.ops.column("kind"), dict[int, list[int]]()
    reached: dict[int, list[int]] = {}
    for tensor, passes in lives.passes.items():
        for one in passes:
            reached.setdefault(one, []).append(tensor)
    for one in sorted(reached):
        if kinds[one] == OpKind.BACKWARD and index.op_statement[one] != NOWHERE:
            by_line.setdefault(index.op_statement[one], []).append(one)
    cleared_at = frozenset(op for ops in lives.cleared.values() for op in ops)
    last_step = max((steps[-1] for steps in lives.steps.values()), default=NONE)
    for passes in by_line.values():
        within = [one for one in passes if one < last_step]
        found = [_in_vain(index, lives, one, reached[one], cleared_at) for one in within]
        known = [one for one in found if one is not None]
        if len(known) == len(found) and len({one.step for one in known}) >= _ROUNDS:
            last = known[-1]
            yield PassesInVain(tuple(within), last.tensors, last.before, last.cleared, last.applied)


def _in_vain(
    index: Index, lives: GradientLives, one: int, tensors: list[int], cleared_at: frozenset[int]
) -> _InVain | None:
    """What became of the gradients of a pass; None where a step applied some of them, or anything else took them."""
    stepped = [tensor for tensor in tensors if tensor in lives.steps]
    gone = {tensor: _gone(index, lives, tensor, one) for tensor in tensors}
    if not stepped or any(gone[tensor] < 0 for tensor in stepped):
        return None
    for gradient in lives.given.get(one, ()):
        until = gone.get(lives.owners.get(gradient, NONE), NONE)
        # (a gradient that was taken away, not set to zero, is another tensor from then on: who has it has kept it)
        until = until if until in lives.zeroed.get(lives.owners.get(gradient, NONE), ()) else index.op_count
        uses = [use for use in index.users.of(gradient) if one < use < until and use not in cleared_at]
        if not all(_only_clips(index, use) for use in uses):
            return None
    tensor = stepped[0]
    cleared = gone[tensor]
    step = first_after(lives.steps[tensor], cleared)
    applied = [other for other in ops_between(lives.passes[tensor], cleared, step) if _is_other(index, other, one)]
    if step < 0 or not applied:
        return None
    before = last_before(lives.steps[tensor], one)
    # In a loop each pass comes after the step of the round before too: the first one tells the order in a round.
    first = next(other for other in lives.passes[tensor] if not _is_other(index, other, one))
    is_right_before = before > last_before(lives.cleared[tensor], one) and lives.steps[tensor][0] < first
    return _InVain(tuple(stepped), before if is_right_before else NONE, cleared, applied[-1], step)


def _only_clips(index: Index, use: int) -> bool:
    """Whether a call changes nothing but the gradients, and nobody looks at the norm that it gives."""
    made = index.tensors_made(use) if index.func(use) in _CLIPS else ()
    return index.func(use) in _CLIPS and not any(user > use for one in made for user in index.users.of(one))


def _gone(index: Index, lives: GradientLives, tensor: int, one: int) -> int:
    """What cleared the gradient that a pass gave a tensor; NONE where a step or another gradient came first."""
    cleared = first_after(lives.cleared.get(tensor, []), one)
    put = [op for op in lives.put.get(tensor, ()) if index.func(op) not in _CLIPS]
    others = (first_after(ops, one) for ops in (lives.steps.get(tensor, []), put))
    return NONE if any(one < other < cleared for other in others) else cleared


def _is_other(index: Index, one: int, other: int) -> bool:
    return index.op_statement[one] != index.op_statement[other]
