"""Why a checkpointed function did something else when backward ran it again: the lines to change."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modes.changed_before_backward import ModeChanged, modes_changed
from gradscope.analysis.facts.modes.mode_runs import mode_runs
from gradscope.analysis.facts.modes.training_modes import TrainingModes
from gradscope.analysis.facts.modules.checkpoints import checkpointed_runs
from gradscope.analysis.facts.modules.rerun_states import FoundOtherwise, found_otherwise
from gradscope.analysis.report_model import Cause

USED_TWICE = "backward through the graph a second time"
"""Part of the message of an error."""
OF_LEFT = (
    "Give it back from the function instead, or empty it before each forward pass, or do not checkpoint the function."
)


class RerunCause(NamedTuple):
    """What a sentence says of an error that checkpoint raised in backward."""

    why: str
    advice: str
    causes: list[Cause]


def rerun_cause(sources: Sources, op: int) -> RerunCause | None:
    """What made a checkpointed function do something else in a pass (an op) than at first; None: it is not known."""
    for changed in changed_modes(sources):
        if changed.back == op and (causes := sources.cause_of_event("used", changed.call.event)):
            name = "train()" if changed.call.training else "eval()"
            return RerunCause(
                f"{name} (line {causes[0].line}) was called between the forward pass and this one, and what is "
                "checkpointed runs again in another mode",
                "Call it after backward, or set the mode back before.",
                causes,
            )
    states = [one for one in found_otherwise(sources.index, sources.events) if one.sort != "left" and one.is_read]
    if len({(one.owner, one.name) for one in states}) != 1 or not (causes := causes_of_state(sources, states[0])):
        return None
    lines = f" (line {causes[0].line})" if states[0].lines else ""
    return RerunCause(
        f"{owned(states[0])}{lines} is another one when the checkpointed function runs again",
        "Change it outside of what is checkpointed and after backward, or hand its value to the function.",
        causes,
    )


def changed_modes(sources: Sources) -> list[ModeChanged]:
    """Runs of checkpointed functions whose mode was another one when a pass came through."""
    index, events = sources.index, sources.events
    runs = mode_runs(index, sources.passes)
    return list(modes_changed(index, events, TrainingModes(events), runs, sources.passes))


def causes_of_state(sources: Sources, found: FoundOtherwise) -> list[Cause]:
    """The statements that change what was found otherwise; the call of checkpoint where it is not clear which do."""
    changed = [sources.cause_of_line("write", found.file, *line) for line in found.lines]
    return changed or sources.cause_of_span("used", found.span)


def owned(found: FoundOtherwise) -> str:
    """What a sentence calls it: ``temperature of SoftPool``."""
    return f"{found.name} of {found.owner}" if found.owner else found.name


def left_behind(sources: Sources, tensors: list[int]) -> tuple[FoundOtherwise, list[Cause]] | None:
    """What kept tensors that a function computed from some others when backward ran it again, and the lines for it.

    None where it did not keep anything, or was not given one of them.
    """
    found = [one for one in found_otherwise(sources.index, sources.events) if one.sort == "left" and one.lines]
    if len(found) != 1:
        return None
    given = {tensor for begun, ops in checkpointed_runs(sources.index, sources.events) for op in ops
             if begun.span == found[0].span for tensor in sources.index.uses.of(op)}  # fmt: skip
    return (found[0], causes_of_left(sources, found[0])) if given.issuperset(tensors) else None


def causes_of_left(sources: Sources, found: FoundOtherwise) -> list[Cause]:
    """The statements that add to what was left, then the call of checkpoint."""
    added = [sources.cause_of_line("write", found.file, *line) for line in found.lines]
    return [*added, *sources.cause_of_span("used", found.span)]
