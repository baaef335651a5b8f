"""Gradients that the program takes after each of several passes, though each pass adds to those of the passes before.

``total += x.grad`` in a loop around ``backward()``, and nothing that clears ``x.grad``: the first gradient is in the
sum as often as there are rounds. Likewise where what is made of an input's ``.grad`` is kept for each round.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, ops_between
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import OpKind

TIMES = 2
"""Passes that added to a gradient which was taken before, and was taken again after."""
_ADDS = ("Tensor.add", "Tensor.add_")
_FOLLOWED = 40
"""Calls with what was made of a gradient that are looked at in a round."""


class TakenAgain(NamedTuple):
    """One leaf."""

    leaf: int
    passed: int
    """The last pass that added to its gradient."""
    taken: int
    """The call that took it then."""
    times: int
    """Passes after which it was taken with those of earlier passes in it."""
    is_summed: bool
    """Whether what was taken is added up; else it is kept."""


class _TakenGradient(NamedTuple):
    """What became of one gradient that was taken."""

    onto: int
    """The tensor to which it was added; NONE for none."""
    total: int
    """What holds the sum then."""
    is_kept: bool


def gradients_taken_again(index: Index, lives: GradientLives, in_optimizers: Collection[int]) -> Iterator[TakenAgain]:
    """One for each leaf and statement that takes its gradient."""
    of_leaf: dict[int, list[int]] = {}
    for gradient, leaf in lives.owners.items():
        of_leaf.setdefault(leaf, []).append(gradient)
    candidates = {leaf: one for leaf, one in of_leaf.items() if _additions(lives, leaf) >= TIMES}
    written = _written(index, candidates) if candidates else {}
    for leaf, gradients in candidates.items():
        by_statement: dict[int, dict[int, tuple[int, int]]] = {}
        if any(_is_compared(index, gradient) for gradient in gradients):
            continue
        for gradient in gradients:
            for op in index.users.of(gradient):
                statement, before = index.op_statement[op], bisect_left(lives.passes[leaf], op)
                if statement != NOWHERE and before and index.recording.ops.column("kind")[op] == OpKind.CALL:
                    known = by_statement.setdefault(statement, {})
                    known[before] = min(known.get(before, (op, gradient)), (op, gradient))
        for takes in by_statement.values():
            found = _of(index, lives, leaf, [takes[one] for one in sorted(takes)], leaf in in_optimizers)
            if found is not None and not ops_between(written[leaf], lives.passes[leaf][0], found.taken):
                yield found


def _additions(lives: GradientLives, leaf: int) -> int:
    return sum(lives.was_added(leaf, op) for op in lives.passes.get(leaf, ()))


def _written(index: Index, leaves: Collection[int]) -> dict[int, list[int]]:
    """For each leaf the writes of its memory: what is updated by its gradients is another matter."""
    found: dict[int, list[int]] = {leaf: [] for leaf in leaves}
    on = {index.recording.tensors.column("storage")[leaf]: leaf for leaf in leaves}
    for op, tensor, before, _ in all_writes(index):
        leaf = on.get(index.storage_at(tensor, op), NONE)
        if leaf >= 0 and (before or tensor == leaf):
            found[leaf].append(op)
    return {leaf: sorted(ops) for leaf, ops in found.items()}


def _of(
    index: Index, lives: GradientLives, leaf: int, takes: list[tuple[int, int]], is_held: bool
) -> TakenAgain | None:
    passes, cleared = lives.passes[leaf], sorted((*lives.cleared.get(leaf, ()), *lives.put.get(leaf, ())))
    again: list[tuple[int, int, _TakenGradient]] = []
    first: _TakenGradient | None = None
    for (before, gradient), (op, other) in pairwise(takes):
        between = ops_between(passes, before, op)
        if not between or not all(lives.was_added(leaf, one) for one in between) or ops_between(cleared, before, op):
            continue
        first = first or _became(index, lives, leaf, before, gradient)
        became = _became(index, lives, leaf, op, other)
        again.append((between[-1], op, became))
    if first is None or len(again) < TIMES:
        return None
    all_of = [first, *(one for *_, one in again)]
    is_summed = all(one.onto >= 0 for one in all_of) and all(
        after.onto in (one.onto, one.total) for one, after in pairwise(all_of)
    )
    is_input = not is_held and not index.recording.tensors.column("flags")[leaf] & PARAMETER
    if not is_summed and not (is_input and all(one.is_kept for one in all_of)):
        return None
    return TakenAgain(leaf, *again[-1][:2], index.times(one for one, *_ in again), is_summed)


def _became(index: Index, lives: GradientLives, leaf: int, op: int, gradient: int) -> _TakenGradient:
    """What the calls up to the next pass made of a gradient, and whether that is kept beyond the pass after it."""
    passes, died = lives.passes[leaf], index.recording.tensors.column("died")
    at = bisect_left(passes, op)
    since, until = passes[at - 1], passes[at] if at < len(passes) else index.op_count
    made, onto, total, todo, looked = {gradient}, NONE, NONE, [op], set[int]()
    while todo and len(looked) < _FOLLOWED:
        one = todo.pop(0)
        if one in looked or not since < one < until:
            continue
        looked.add(one)
        others = [taken for taken in index.uses.of(one) if taken not in made]
        if index.method(one) in _ADDS and len(others) == 1 and _is_like(index, others[0], gradient):
            onto, total = others[0], next(iter(index.tensors_made(one)), others[0])
            continue
        for result in index.tensors_made(one):
            made.add(result)
            todo += index.users.of(result)
        if index.method(one) in ("Tensor.add_", "Tensor.mul_", "Tensor.div_") and index.uses.of(one)[0] in made:
            continue
    kept = [
        one for one in made - {gradient} if not index.has_one_element(one) and (died[one] < 0 or died[one] > until + 1)
    ]
    return _TakenGradient(onto, total, bool(kept))


def _is_like(index: Index, tensor: int, gradient: int) -> bool:
    """Whether a tensor has the shape of a gradient, and is none itself."""
    layouts, of = index.recording.layouts, index.recording.tensors.column("layout")
    return tensor != gradient and layouts[of[tensor]].shape == layouts[of[gradient]].shape


def _is_compared(index: Index, gradient: int) -> bool:
    """Whether a call takes a gradient beside a copy of it as it was: ``p.grad - before`` is that of one pass."""
    copies = {
        made
        for op in index.users.of(gradient)
        for one in (*index.tensors_made(op), gradient)
        for user in (op, *index.users.of(one))
        if index.method(user) == "Tensor.clone"
        for made in index.tensors_made(user)
    }
    return any(one in copies for op in index.users.of(gradient) for one in index.uses.of(op))
