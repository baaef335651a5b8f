"""Gradients that a step applies again as they were, in a round that gave others of the same optimizer new ones.

A program that hands gradients over (``master.grad = weight.grad``) or clears those of a part of the model leaves the
others as they are. What the round did not reach is stepped once more with the gradient of the last that did.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
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
    rounds = _BetweenSteps(index, lives, given, stepped)
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
            renewed = rounds.renewed(last, first, second)
            if renewed is not None:
                again = [*found[-1].steps, second] if found else [second]
                found.append(AppliedUnchanged(tensor, last.op, last.is_pass, *renewed, again))
        if found:
            yield found[-1]


class _BetweenSteps:
    """What the rounds between two steps gave: asked once for all parameters that these left as they were."""

    def __init__(
        self, index: Index, lives: GradientLives, given: dict[int, list[_HandedOver]], stepped: dict[int, list[int]]
    ) -> None:
        self._index, self._lives, self._given = index, lives, given
        self._ops = {tensor: [row.op for row in rows] for tensor, rows in given.items()}
        self._members: dict[int, set[int]] = {}
        for tensor, steps in stepped.items():
            for step in steps:
                self._members.setdefault(step, set()).add(tensor)
        self._known: dict[tuple[int, int, int], tuple[int, int] | None] = {}

    def renewed(self, last: _HandedOver, first: int, second: int) -> tuple[int, int] | None:
        """What gave another parameter of both steps a new gradient as this one got its last, and what cleared it."""
        statement = NONE if last.is_pass else self._index.op_statement[last.op]
        key = (statement, first, second)
        if key not in self._known:
            both = self._members[first] & self._members[second]
            new = [self._of(one, statement, first, second) for one in sorted(both)]
            # (of several that cleared, the last: the way to the pass is past it)
            self._known[key] = max((one for one in new if one is not None), key=lambda one: one[1], default=None)
        return self._known[key]

    def _of(self, tensor: int, statement: int, first: int, second: int) -> tuple[int, int] | None:
        """The same of one parameter; by a pass, where no statement is given."""
        ops = self._ops.get(tensor, [])
        for row in self._given.get(tensor, [])[bisect_right(ops, first) : bisect_left(ops, second)]:
            if not row.is_new or row.is_pass != (statement == NONE):
                continue
            cleared = ops_between(self._lives.cleared.get(tensor, []), first, row.op)
            if row.is_pass and cleared:
                return row.op, cleared[-1]
            if not row.is_pass and self._index.op_statement[row.op] == statement:
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
