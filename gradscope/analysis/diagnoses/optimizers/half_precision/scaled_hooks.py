"""Hooks that limit gradients while a pass from a scaled loss computes them: nothing can have divided them by then."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.modules.effects_on_leaves import EffectOnLeaf, effects_on_leaves
from gradscope.analysis.facts.modules.registered_hooks import RegisteredHook
from gradscope.analysis.facts.optimizers import seen_optimizers
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE
from gradscope.recording.rows import EventKind

LOOKS = 2
"""Runs that must have been looked at."""
_SHORTENED = 16.0
"""How many times as short a limited norm must be each time: limits that are meant do not bite so much in every pass."""
_ALIKE = 0.02
"""By how much limited norms may differ that are limited to the same."""


def limited_by_hooks(sources: Sources, passes: dict[int, Happened]) -> Iterator[Finding]:
    """One finding for each line that registers such a hook.

    Args:
        sources: What is known.
        passes: The passes from scaled losses, with how these were scaled.
    """
    divided = _divided_by_scaler(sources)
    found: dict[int, list[EffectOnLeaf]] = {}
    for effect in effects_on_leaves(sources.hooks):
        own = sources.lives.passes.get(effect.leaf, [])
        is_scaled = effect.leaf in divided and own and passes.keys() >= set(own)
        if is_scaled and _limits(effect) and not _knows_the_scale(sources, effect.hook):
            found.setdefault(effect.hook.registered[0].subject, []).append(effect)
    for effects in found.values():
        hook, leaves = effects[0].hook, list(dict.fromkeys(one.leaf for one in effects))
        lines = [*hook.source.returns, *hook.source.writes][:1]
        causes = [
            *sources.causes_at("returned", [hook.lines(*line) for line in lines]),
            *sources.cause_of_event("made", hook.registered[-1]),
        ]
        last = sources.lives.passes[leaves[0]][-1]
        yield sources.finding(
            f"Line {causes[0].line if causes else 0}: {hook.name}, a hook on "
            f"{sources.listed([sources.names.of(leaf) for leaf in leaves])}, limits gradients that are still "
            "multiplied by the loss scale",
            why="GradScaler divides them only afterwards, so that the limit is too small by the scale",
            op=last,
            tensors=leaves,
            causes=causes,
            evidence=[Evidence("events", hook.registered[0].row), Evidence("events", passes[last].row)],
            advice="Limit them after scaler.unscale_(optimizer), without a hook.",
        )


def _divided_by_scaler(sources: Sources) -> set[int]:
    """The tensors of the optimizers whose step a scaler made."""
    held = {one.made.subject: one.tensors for one in seen_optimizers(sources.index, sources.events)}
    steps = (one for one in sources.events.of(EventKind.GRAD_SCALER) if one.detail.get("call") == "step")
    return {leaf for one in steps for leaf in held.get(one.detail.get("optimizer", NONE), ())}


def _limits(effect: EffectOnLeaf) -> bool:
    """Whether each look found most elements at one limit, or a norm that is the same each time and much shorter."""
    looks = effect.looks
    if len(looks) < LOOKS or any(look.not_zero == 0 for look in looks):
        return False
    if all(2 * look.smaller >= look.not_zero and look.at_limit >= 0.9 * look.smaller for look in looks):
        return True
    norms = [look.norm_after for look in looks]
    are_alike = max(norms) - min(norms) <= _ALIKE * min(norms)
    return are_alike and all(look.norm_before >= _SHORTENED * look.norm_after for look in looks)


def _knows_the_scale(sources: Sources, hook: RegisteredHook) -> bool:
    """Whether the hook has a name of the scale, or the scaler was asked for it before the hook was registered."""
    asked = (one for one in sources.events.of(EventKind.GRAD_SCALER) if one.detail.get("call") == "get_scale")
    if any(one.row < hook.registered[-1].row for one in asked):
        return True
    return any("scale" in name for name in hook.source.mentions)
