"""Batch norms that learned their running statistics in copies of the buffers alone, while their weights were trained.

``functional_call(net, (params, {n: b.clone() for …}), x)``: what the norm learns goes into the copies, and with them.
It shows where the module itself is run in evaluation mode and normalises with what it was made with, 0 and 1.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, ops_between
from gradscope.analysis.facts.writes import all_writes, last_written
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import Field

RUNS = 3
"""Steps with a write of such a copy before each, from which on the module's own statistics are those of the start."""
_COPIES = re.compile(r"Tensor\.(clone|new_tensor|__deepcopy__)")
_MEAN, _WEIGHT, _TAKEN = 1, 3, 5
"""What a batch norm takes: the input, both statistics, weight and bias."""


class InCopies(NamedTuple):
    """One batch norm."""

    weight: int
    mean: int
    copies: tuple[int, ...]
    """The calls that copied its running mean, where the copy was written later."""
    writes: tuple[int, ...]
    """The calls that wrote the copies."""
    used: tuple[int, ...]
    """Its own calls in evaluation mode after that."""


def statistics_in_copies(index: Index, lives: GradientLives) -> list[InCopies]:
    """Those of one recording."""
    evaluated = _evaluated(index, lives)
    if not evaluated:
        return []
    written, written_last = _written(index), last_written(index)
    found = []
    for (weight, mean), uses in evaluated.items():
        storage = index.storage_at(mean, uses[-1])
        last = written_last.get(storage, NONE)
        if storage < 0 or last > index.made_by(mean) or index.recording.storages.column("external")[storage]:
            continue  # (it has learned, or was loaded, or made elsewhere)
        copied = [(op, written[copy]) for op, copy in _copied(index, mean) if copy in written]
        copies, writes = dict.fromkeys(op for op, _ in copied), sorted({op for _, ops in copied for op in ops})
        steps = [step for step in lives.steps[weight] if writes and step > writes[0]]
        rounds = [at for at, step in enumerate(steps) if not at or ops_between(writes, steps[at - 1], step)]
        used = tuple(op for op in uses if len(rounds) >= RUNS and op > steps[rounds[RUNS - 1]])
        if used:
            found.append(InCopies(weight, mean, tuple(copies), tuple(writes), used))
    return found


def _evaluated(index: Index, lives: GradientLives) -> dict[tuple[int, int], list[int]]:
    """For the weight and the running mean of each trained batch norm: its own calls in evaluation mode."""
    changes = index.recording.changes
    columns = (changes.column(name) for name in ("op", "field"))
    in_training = {op for op, field in zip(*columns, strict=True) if field == Field.WRITTEN}
    found: dict[tuple[int, int], list[int]] = {}
    for op in index.calls_of(lambda name: name == "F.batch_norm"):
        taken = index.uses.of(op)
        if op not in in_training and len(taken) == _TAKEN and taken[_WEIGHT] in lives.steps:
            found.setdefault((taken[_WEIGHT], taken[_MEAN]), []).append(op)
    return found


def _copied(index: Index, mean: int) -> list[tuple[int, int]]:
    """The calls that copied what is on a tensor's memory (state_dict gives views), each with the memory of a copy."""
    on = index.recording.tensors.column("storage")
    return sorted(
        (op, index.storage_at(made, op))
        for one in (tensor for tensor, storage in enumerate(on) if storage == on[mean])
        for op in index.users.of(one)
        if _COPIES.fullmatch(index.method(op))
        for made in index.made.of(op)
        if on[made] != on[mean]
    )


def _written(index: Index) -> dict[int, list[int]]:
    """For each memory block the calls that wrote it past the version counter, as a batch norm does."""
    found: dict[int, list[int]] = {}
    for op, tensor, before, _ in all_writes(index):
        if before == NONE and op < index.op_count:
            found.setdefault(index.storage_at(tensor, op), []).append(op)
    return found
