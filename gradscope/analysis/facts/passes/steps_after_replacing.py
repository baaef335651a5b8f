"""Steps that apply nothing of some gradients, since their parameters were replaced after the backward pass.

A program that grows or prunes its parameters gives the optimizer new ones. These have no gradient until the next pass;
the gradients of the last one are with the old parameters, which no step takes any more.
"""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, ops_between
from gradscope.analysis.index import Index
from gradscope.recording.rows import OpKind


class ReplacedBeforeStep(NamedTuple):
    """One such step."""

    step: int
    backward: int
    """The last pass before it."""
    old: tuple[int, ...]
    """Parameters that steps of the same line took before, with gradients of that pass or of one since."""
    new: tuple[int, ...]
    """As many, made since that pass, which the next step of that line takes."""


def replaced_before_steps(index: Index, lives: GradientLives) -> list[ReplacedBeforeStep]:
    """All of a recording, in order."""
    by_statement: dict[int, list[int]] = {}
    for op in index.of_kind(OpKind.STEP):
        by_statement.setdefault(index.op_statement[op], []).append(op)
    old: dict[tuple[int, int], list[int]] = {}
    new: dict[tuple[int, int], list[int]] = {}
    for tensor, steps in lives.steps.items():
        following = by_statement.get(index.op_statement[steps[-1]], [])
        given = first_after(lives.passes[tensor], steps[-1])
        step = first_after(following, given) if given >= 0 else -1
        if step >= 0 and first_after(lives.cleared.get(tensor, []), given) < 0:
            old.setdefault((step, lives.passes[tensor][-1]), []).append(tensor)
    seen, storages = index.recording.tensors.column("op"), index.recording.storages.column("op")
    for step, backward in old:
        following = by_statement[index.op_statement[step]]
        for tensor, steps in lives.steps.items():
            passes, first = lives.passes[tensor], steps[0]
            storage = index.storage_at(tensor, first)  # (a parameter may be seen later than its memory)
            is_between = storage >= 0 and backward < storages[storage] <= step and seen[tensor] > backward
            # (where a line steps several optimizers in turn, each comes to its own after the same pass)
            is_next = first == first_after(following, step) or not ops_between(passes, passes[0], first)
            if is_between and is_next and first in following and step < passes[0] < first:
                new.setdefault((step, backward), []).append(tensor)
    return [
        ReplacedBeforeStep(*key, tuple(tensors), tuple(new[key]))
        for key, tensors in sorted(old.items())
        if len(new.get(key, ())) == len(tensors)
    ]
