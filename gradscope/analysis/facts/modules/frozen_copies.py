"""Deep copies of parameters that did not require grad then: the copies do not either, though they are to be trained.

Most copies of what is frozen are meant to stay as they are: a reference model, a probe's own backbone. One is not where
an optimizer has a group of nothing else while the original is used beside it; nor where it takes the place, or a place
beside, of a part that was trained until it was frozen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.modules.copies_without_hooks import copies_of_parameters
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.facts.writes import last_written
from gradscope.analysis.index import Index
from gradscope.frames.names.copies_of_items import copied_beside_itself
from gradscope.recording import NONE

PASSES = 2
"""Passes behind whose losses a copy stands from which on it was used in training."""
_LOOKED_AT = 8
"""Passes after a copy that are looked at."""


class FrozenCopy(NamedTuple):
    """The copies that one call of ``copy.deepcopy`` made."""

    op: int
    originals: list[int]
    copies: list[int]
    passes: list[int]
    """Passes whose losses were computed with them."""
    of: str
    """What was copied, as the source has it, where the copy was put where that was; else empty."""
    optimizer: Optimizer | None
    """The one that has a group of nothing but copies, where that shows that they are to be trained."""


def frozen_copies(index: Index, events: Events, flow: Flow, lives: GradientLives) -> Iterator[FrozenCopy]:
    """One for each call; those whose copies were written, or ever required grad, are left out."""
    calls = index.calls_of(lambda name: name == "nn.Parameter.__deepcopy__")
    written = last_written(index) if calls else {}
    for op in calls:
        made = copies_of_parameters(index, op)
        copies = [one for several in made.values() for one in several]
        if not copies or any(index.requires_grad(one, op) or not _was_frozen(index, one, op) for one in made):
            continue
        if any(_was_set(index, one) or index.requires_grad(one, index.op_count) for one in copies):
            continue
        if any(written.get(index.storage_at(one, index.op_count), NONE) > op for one in copies):
            continue
        passes = _passes_with(index, flow, copies, op)
        of, optimizer = _place_kept(index, lives, list(made), op), None
        if len(passes) >= PASSES and not of:
            optimizer = _given_to(index, events, copies, op) if _is_used_beside(index, made, passes) else None
        if len(passes) >= PASSES and (of or optimizer is not None):
            yield FrozenCopy(op, list(made), copies, passes, of, optimizer)


def _was_frozen(index: Index, tensor: int, op: int) -> bool:
    """Whether the program had switched requires_grad off before an op, and did not switch it on afterwards."""
    changes = [index.recording.changes[row] for row in index.changed_ops.get(tensor, ())]
    before = [one for one in changes if one.op < op]
    return bool(before) and before[-1] is changes[-1] and not before[-1].after


def _was_set(index: Index, tensor: int) -> bool:
    return bool(index.changed_ops.get(tensor))


def _passes_with(index: Index, flow: Flow, copies: list[int], op: int) -> list[int]:
    after = [one for one in index.roots if one > op][:_LOOKED_AT]
    return [one for one in after if not flow.origins_of_all(index.roots[one], one).keys().isdisjoint(copies)]


def _is_used_beside(index: Index, originals: dict[int, list[int]], passes: list[int]) -> bool:
    """Whether the originals are in use, too, while the copies are: they are the teacher, or the target."""
    return any(passes[0] < op < passes[-1] for one in originals for op in index.users.of(one))


def _place_kept(index: Index, lives: GradientLives, originals: list[int], op: int) -> str:
    """What was copied, where the text puts the copy in its place or beside it, and it was trained before."""
    where = index.statements[index.op_statement[op]]
    was_trained = any(step < op for one in originals for step in lives.steps.get(one, ()))
    return copied_beside_itself(index.recording.files[where.file].text, index.op_line(op)) if was_trained else ""


def _given_to(index: Index, events: Events, copies: list[int], op: int) -> Optimizer | None:
    """An optimizer made after an op of which a group has nothing but copies."""
    for optimizer in seen_optimizers(index, events):
        for group in optimizer.groups:
            if group.op >= op and group.tensors and set(copies).issuperset(group.tensors):
                return optimizer
    return None
