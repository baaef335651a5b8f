"""Elements of a parameter that are zero, whose gradient a hook makes zero, and that steps move all the same.

A training had gone on before they were set to zero: of a step that is made of the gradient alone they would stay so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.memory_writes.changed_leaves import changed_leaves
from gradscope.analysis.facts.modules.effects_on_leaves import EffectOnLeaf, effects_on_leaves
from gradscope.analysis.facts.modules.registered_hooks import RegisteredHooks
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.index import Index

_LOOKS = 3
"""Looks at the hook that found the same elements made zero."""
_STEPS = 2
"""Steps before and after from which on it counts: the last one before leaves a direction behind."""


class MaskedByHook(NamedTuple):
    """One parameter."""

    effect: EffectOnLeaf
    written: int
    """The op that wrote it last, between the steps before and those after; no other did since then."""
    before: int
    """Steps before that."""
    last: int
    """The last step."""


def masked_by_hooks(index: Index, lives: GradientLives, hooks: RegisteredHooks) -> Iterator[MaskedByHook]:
    """Every parameter, most of whose elements under such a hook were zero at the first look and moved later."""
    effects = [one for one in effects_on_leaves(hooks) if _moves_zeros(one)]
    changed = changed_leaves(index, lives) if effects else {}
    seen = [one.leaf for one in effects]
    for effect in effects:
        steps, writes = lives.steps.get(effect.leaf, []), [op for op, _ in changed.get(effect.leaf, ())]
        if not writes or seen.count(effect.leaf) > 1:
            continue
        written = writes[-1]
        before, after = [op for op in steps if op < written], [op for op in steps if op > written]
        given = [op for op in lives.passes.get(effect.leaf, ()) if op > written]
        first = effect.hook.registered[0].op
        if len(before) < _STEPS or len(after) < _STEPS or not given or first > given[0] or first < before[-1]:
            continue
        yield MaskedByHook(effect, written, index.times(before), after[-1])


def _moves_zeros(effect: EffectOnLeaf) -> bool:
    hook = effect.hook
    if effect.at_times or len(effect.looks) < _LOOKS or effect.valued or hook.source.chooses_by_gradient:
        return False
    return 0 < effect.zeroed < effect.elements and 2 * effect.moved >= effect.zeroed
