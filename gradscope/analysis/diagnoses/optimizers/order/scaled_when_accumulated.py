"""Hooks that make a gradient smaller once a pass has accumulated it, while several passes add up for one step."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.effects_on_leaves import EffectOnLeaf, effects_on_leaves
from gradscope.analysis.report_model import Evidence

_LOOKS = 3
"""Runs of a hook that were looked at, in each of which it did so."""
_PASSES = 2
"""Passes that added to what it had made smaller."""
_ROUNDING = 1e-4


def scaled_when_accumulated(sources: Sources) -> Iterator[Finding]:
    """One finding for each such hook."""
    hooks = [hook for hook in sources.hooks.all if hook.kind == "accumulated"]
    effects = list(effects_on_leaves(sources.hooks)) if hooks else []
    for hook in hooks:
        own = [one for one in effects if one.hook is hook]
        added = {one.leaf: _added_before_steps(sources, one.leaf, hook.registered[0].op) for one in own}
        if not own or min(added.values()) < _PASSES or not all(map(_makes_smaller, own)):
            continue
        event, leaves = hook.registered[-1], list(added)
        lines = hook.source.scales_gradient[:1] or hook.source.sets_gradient[:1]
        causes = [
            *sources.causes_at("write", [hook.lines(*one) for one in lines]),
            *sources.cause_of_event("made", event),
        ]
        names = sources.listed([sources.names.of(leaf) for leaf in leaves])
        yield sources.finding(
            f"Line {causes[0].line if causes else 0}: {hook.name}, a hook that runs each time a pass has accumulated a "
            f"gradient, makes .grad of {names} smaller, while several passes add up for one step",
            why=f"what the passes before gave is made smaller again with each further one ({max(added.values()):,} "
            "times), so that the later ones count for more in the step",
            op=min(event.op, sources.index.op_count - 1),
            tensors=leaves[:1],
            causes=causes,
            evidence=[Evidence("events", event.row)],
            advice="Scale the loss of each pass, or the gradients once, right before the step.",
        )


def _makes_smaller(effect: EffectOnLeaf) -> bool:
    """Whether it did in each run that was looked at, and left something."""
    looks = [one for one in effect.looks if one.norm_before > 0]
    return len(looks) >= _LOOKS and all(0 < one.norm_after < (1 - _ROUNDING) * one.norm_before for one in looks)


def _added_before_steps(sources: Sources, leaf: int, since: int) -> int:
    """Passes that added to what others had given a leaf since the hook was there, with a step after them."""
    lives = sources.lives
    steps = lives.steps.get(leaf, [])
    added = [op for op in lives.passes.get(leaf, []) if op >= since and lives.was_added(leaf, op)]
    return sources.index.times(op for op in added if steps and op < steps[-1])
