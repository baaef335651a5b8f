"""Why no step changed a parameter that an optimizer holds."""

from __future__ import annotations

from gradscope.analysis.diagnoses.optimizers.members.why_no_step import WhyNoStep
from gradscope.analysis.diagnoses.optimizers.order.clearing_calls import call_that_clears
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import Optimizer
from gradscope.analysis.facts.passes.gradient_lives import last_before, ops_between
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind


def held_in_vain(
    sources: Sources, holders: list[Optimizer], tensor: int, passes: list[int], steps: list[int]
) -> WhyNoStep | None:
    """A parameter that an optimizer holds: its step was never called, or the gradient was gone by then."""
    index = sources.index
    names = {f"{one.name}.step" for one in holders}
    own = [op for op in steps if index.func(op) in names and not _is_of_others(index, op, holders)]
    holder, cleared = holders[0], index.cleared_at.get(tensor, [])
    if not own and len(holders) == 1:
        return WhyNoStep(
            f"the {holder.name} of line {holder.line} holds them, and no step of it was seen",
            tuple(sources.cause_of_event("made", holder.made)),
            (holder.made.row,),
        )
    if own and own[0] < passes[0] and len(holders) == 1:
        line = index.op_line(own[-1])
        gone = last_before(cleared, own[-1])
        if gone >= 0 and (others := ops_between(index.of_kind(OpKind.BACKWARD), gone, own[-1])):
            return WhyNoStep(
                f"line {line} ({index.func(own[-1])}) comes after the pass of line {index.op_line(others[-1])}, "
                f"which does not reach them, and line {index.op_line(gone)} clears what other passes give them",
                tuple(sources.cause("backward", others[-1])),
                (holder.made.row,),
                "Let the loss of that pass be computed of them, or leave them out of the optimizer.",
            )
        return WhyNoStep(
            f"line {line} ({index.func(own[-1])}) comes before backward and after what clears the gradients",
            tuple(sources.cause("step", own[-1])),
            (holder.made.row,),
            "Step after backward.",
        )
    applied = [op for op in own if last_before(passes, op) > NONE]
    between = [last_before(cleared, op) for op in applied]
    if between and all(gone > last_before(passes, op) for gone, op in zip(between, applied, strict=True)):
        lines = {index.op_line(op) for op in between}
        if len(lines) == 1 and lines != {0}:
            where, causes = call_that_clears(sources, between[-1], last_before(passes, between[-1]), applied[-1])
            return WhyNoStep(
                f"{where} cleared their gradients between backward and the step",
                tuple(causes),
                (holder.made.row,),
                "Clear them before backward or after the step.",
            )
    return None


def _is_of_others(index: Index, step: int, holders: list[Optimizer]) -> bool:
    """Whether a step changed parameters, and none that these optimizers hold: another of the same class made it."""
    changed = index.uses.of(step)
    return bool(changed) and all(one.tensors.isdisjoint(changed) for one in holders)
