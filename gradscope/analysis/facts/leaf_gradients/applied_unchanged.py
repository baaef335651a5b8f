"""Gradients that a step applies again as they were, in a round that gave others of the same optimizer new ones.

A program that hands gradients over (``master.grad = weight.grad``) or clears those of a part of the model leaves the
others as they are. What the round did not reach is stepped once more with the gradient of the last that did.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, ops_between
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import Field, GradOutcome, OpKind

_SETS = "Tensor.grad.__set__"
_KEEPS = ("nn.utils.clip_grad", "amp.GradScaler.")
"""Functions of torch's that make a gradient smaller, and give no new one."""


class _HandedOver(NamedTuple):
    op: int
    is_new: bool
    """Whether it gave a gradient; else it took one away, or did something else to it."""
    is_pass: bool


class AppliedUnchanged(NamedTuple):
    """A parameter of which steps applied one gradient several times."""

    tensor: int
    given: int
    """The op that gave the gradient: a pass, or what set it by hand; the last time."""
    is_pass: bool
    renewed: int
    """What gave another parameter a new gradient between the last two steps."""
    cleared: int
    """What had cleared that one's gradient before, in the same round; NONE where nothing did."""
    steps: list[int]
    """The steps that applied it again."""


def applied_unchanged(index: Index, lives: GradientLives) -> Iterator[AppliedUnchanged]:
    """One for each such parameter.

    The round is known by another parameter that both steps wrote: the very statement that set this gradient gave that
    one a new one, or, where a pass gave it, another pass did after the program had cleared it. A gradient that is set
    for all once, or a step that is made twice, is thus none of these.
    """
    stepped = _stepped(index)
    given = _given(index, {tensor for tensor, steps in stepped.items() if len(steps) > 1})
    members: dict[int, list[int]] = {}
    for tensor, steps in stepped.items():
        for step in steps:
            members.setdefault(step, []).append(tensor)
    for tensor, steps in stepped.items():
        rows = given.get(tensor, [])
        ops = [row.op for row in rows]
        found: list[AppliedUnchanged] = []
        for first, second in pairwise(steps):
            at = bisect_left(ops, first)
            if at == 0 or not rows[at - 1].is_new or at != bisect_left(ops, second):
                continue
            last = rows[at - 1]
            if last.is_pass and not index.requires_grad(tensor, second):
                continue  # (it was frozen since: see moved-without-gradient)
            both = (one for one in members[second] if one != tensor and first in stepped[one])
            new = [_renewed(index, lives, given, one, last, first, second) for one in both]
            # (of several that cleared, the last: the way to the pass is past it)
            renewed = max((one for one in new if one is not None), key=lambda one: one[1], default=None)
            if renewed is not None:
                again = [*found[-1].steps, second] if found else [second]
                found.append(AppliedUnchanged(tensor, last.op, last.is_pass, *renewed, again))
        if found:
            yield found[-1]


def _renewed(
    index: Index,
    lives: GradientLives,
    given: dict[int, list[_HandedOver]],
    other: int,
    last: _HandedOver,
    first: int,
    second: int,
) -> tuple[int, int] | None:
    """What gave another parameter a new gradient between two steps as this one got its last, and what cleared it."""
    for row in given.get(other, ()):
        if not first < row.op < second or not row.is_new or row.is_pass != last.is_pass:
            continue
        cleared = ops_between(lives.cleared.get(other, []), first, row.op)
        if last.is_pass and cleared:
            return row.op, cleared[-1]
        if not last.is_pass and index.op_statement[row.op] == index.op_statement[last.op]:
            return row.op, NONE
    return None


def _stepped(index: Index) -> dict[int, list[int]]:
    """The steps of optimizers that wrote each tensor, in order."""
    kinds, found = index.recording.ops.column("kind"), dict[int, dict[int, None]]()
    for op, tensor, _, _ in all_writes(index):
        if op < index.op_count and kinds[op] == OpKind.STEP:
            found.setdefault(tensor, {})[op] = None
    return {tensor: sorted(steps) for tensor, steps in found.items()}


def _given(index: Index, tensors: set[int]) -> dict[int, list[_HandedOver]]:
    """What was done to the gradient of each tensor, in order; only the last for one op."""
    storages, kinds = (index.recording.tensors.column("storage"), index.recording.ops.column("kind"))
    found: dict[int, dict[int, _HandedOver]] = {}
    owners: dict[int, set[int]] = {}
    passes, changes = index.recording.gradients, index.recording.changes

    def note(tensor: int, op: int, gradient: int, is_new: bool, is_pass: bool) -> None:
        if gradient >= 0:
            owners.setdefault(storages[gradient], set()).add(tensor)
        if tensor in tensors:
            found.setdefault(tensor, {})[op] = _HandedOver(op, is_new, is_pass)

    columns = (changes.column(name) for name in ("op", "tensor", "field", "after"))
    for op, tensor, field, after in zip(*columns, strict=True):
        if field == Field.GRAD:
            note(tensor, op, after, after >= 0 and index.func(op) == _SETS, is_pass=False)
    added = list[tuple[int, int]]()
    columns = (passes.column(name) for name in ("op", "tensor", "outcome", "grad"))
    for op, tensor, outcome, gradient in zip(*columns, strict=True):
        if outcome in (GradOutcome.CREATED, GradOutcome.ACCUMULATED):
            note(tensor, op, gradient, is_new=True, is_pass=True)
            if outcome == GradOutcome.ACCUMULATED and gradient >= 0:
                added.append((op, gradient))
    written = ((op, tensor) for op, tensor, _, _ in all_writes(index) if op < index.op_count)
    for op, gradient in (*added, *written):
        if kinds[op] == OpKind.STEP or index.func(op).startswith(_KEEPS):
            continue
        for tensor in owners.get(storages[gradient], ()):
            if tensor in tensors and op not in found.setdefault(tensor, {}):
                found[tensor][op] = _HandedOver(op, index.method(op).endswith("copy_"), is_pass=False)
    return {tensor: [rows[op] for op in sorted(rows)] for tensor, rows in found.items()}
