"""How the values of two runs compare: losses, gradients, leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gradscope.analysis.whatif.trial_facts import TrialFacts
from gradscope.analysis.whatif.whatif_model import Likeness
from gradscope.recording.kept_values import Difference, KeptValue

Differ = Callable[[KeptValue, KeptValue], Difference]
"""How far the first, of a variant, is off from the second, of the unchanged run."""

NOTHING = Likeness(None, None, None, "", 0, 0)


def losses_alike(variant: TrialFacts, base: TrialFacts) -> Likeness:
    """What the backward passes started from, pass by pass."""
    compared = 0
    for number, (one, other) in enumerate(zip(variant.passes, base.passes, strict=False), 1):
        if not one.losses or len(one.losses) != len(other.losses):
            continue
        compared += 1
        if not _are_same(one.losses, other.losses):
            off = [(abs(a - b), abs(b)) for a, b in zip(one.losses, other.losses, strict=True) if a != b]
            largest = max(difference for difference, _ in off)
            scale = max(size for _, size in off)
            return Likeness(False, largest / scale if scale else None, largest, "loss", number, compared)
    return Likeness(True, None, None, "", 0, compared) if compared else NOTHING


def _are_same(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a == b or (a != a and b != b) for a, b in zip(one, other, strict=True))


def gradients_alike(variant: TrialFacts, base: TrialFacts, differ: Differ) -> Likeness:
    """Gradients after each backward pass that was looked at in both runs."""
    compared = 0
    for number, (one, other) in enumerate(zip(variant.passes, base.passes, strict=False), 1):
        if not (one.is_looked_at and other.is_looked_at):
            break
        found = _alike(variant.gradients_after(number - 1), base.gradients_after(number - 1), differ)
        compared += found.compared
        if found.same is False:
            return found._replace(first_pass=number, compared=compared)
    return Likeness(True, None, None, "", 0, compared) if compared else NOTHING


def values_alike(variant: TrialFacts, base: TrialFacts, differ: Differ) -> Likeness:
    """Leaves at the end of both runs."""
    return _alike(variant.values, base.values, differ)


def _alike(mine: Mapping[str, KeptValue], its: Mapping[str, KeptValue], differ: Differ) -> Likeness:
    both = [name for name in its if name in mine]
    if not both:
        return NOTHING
    other = {name: differ(mine[name], its[name]) for name in both if mine[name].digest != its[name].digest}
    if not other:
        return Likeness(True, None, None, "", 0, len(both))
    worst = max(other, key=lambda name: (other[name].relative or 0.0, other[name].largest or 0.0))
    return Likeness(False, other[worst].relative, other[worst].largest, worst, 0, len(both))
