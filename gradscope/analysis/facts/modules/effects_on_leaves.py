"""What hooks were found to do to the gradients of leaves, in the runs that were looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from gradscope.analysis.facts.modules.registered_hooks import RegisteredHook, RegisteredHooks


class LookAtHook(NamedTuple):
    """One run of a hook that was looked at."""

    not_zero: float
    """Elements of the gradient that were not zero before it."""
    smaller: float
    """Of these, those that it made smaller."""
    at_limit: float
    """Of those, how many were then as large as the largest of all."""
    norm_before: float
    norm_after: float


class EffectOnLeaf(NamedTuple):
    """What the hook of a line did to the gradient of one leaf."""

    hook: RegisteredHook
    leaf: int
    elements: int
    zeroed: int
    """Elements that it made zero, and that were zero after each look."""
    at_times: int
    """Elements that it made zero in some runs and not in others."""
    valued: int
    """Of the zeroed elements, those where the leaf did not hold zero at the first look."""
    moved: int
    """Of the zeroed elements, those where the leaf held another number at the last look."""
    looks: list[LookAtHook]


def effects_on_leaves(hooks: RegisteredHooks) -> Iterator[EffectOnLeaf]:
    """Every effect that was looked at, by the order of the hooks."""
    for hook in hooks.all:
        effects: list[dict[str, Any]] = hook.did.get("effects") or []
        for leaf, effect in zip(hook.leaves, effects, strict=False):
            looks = [LookAtHook(*numbers) for numbers in effect["looks"]]
            yield EffectOnLeaf(
                hook,
                leaf,
                effect["elements"],
                effect["zeroed"],
                effect["at_times"],
                effect["valued"],
                effect["moved"],
                looks,
            )


def zeroed_when_accumulated(hooks: RegisteredHooks) -> dict[int, EffectOnLeaf]:
    """Leaves whose gradient a hook makes zero throughout in each look, once a pass has accumulated it."""
    if all(hook.kind != "accumulated" for hook in hooks.all):
        return {}
    effects = (one for one in effects_on_leaves(hooks) if one.hook.kind == "accumulated")
    return {
        one.leaf: one
        for one in effects
        if one.zeroed == one.elements and one.looks and all(look.norm_before > 0 for look in one.looks)
    }
