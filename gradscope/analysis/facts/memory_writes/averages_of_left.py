"""Updates of copies of weights by weights that nothing trains, or uses, any more: others have taken their place.

``pairs = list(zip(net.parameters(), target.parameters()))`` keeps the parameters of that moment, whatever net and
target come to be after it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER

ROUNDS = 4
"""Updates with a step of others before each from which on it is reported."""
_UPDATES = frozenset(f"Tensor.{name}_" for name in ("add", "sub", "lerp", "copy"))


class AverageOfLeft(NamedTuple):
    """What one statement updates."""

    ops: tuple[int, ...]
    """Its updates since anything changed what it reads."""
    copies: tuple[int, ...]
    """The parameters that it writes."""
    sources: tuple[int, ...]
    """The parameters that it reads: nothing else uses or changes them in that time."""
    trained: tuple[int, ...]
    """Of each of these one of the same shape that steps change meanwhile."""
    rounds: int


def averages_of_left(index: Index, lives: GradientLives) -> Iterator[AverageOfLeft]:
    """One for each statement all of whose sources are left."""
    flags = index.recording.tensors.column("flags")
    by_statement: dict[int, list[tuple[int, int, int]]] = {}
    if not lives.steps:
        return
    leaf_on = {index.storage_at(leaf, index.op_count): leaf for leaf, flag in enumerate(flags) if flag & PARAMETER}
    written: dict[int, list[int]] = {}
    for op, tensor, _, _ in writes_by_program(index):
        on = leaf_on.get(index.storage_at(tensor, op), NONE)
        if on < 0:
            continue
        written.setdefault(on, []).append(op)
        if index.method(op) not in _UPDATES or on in lives.steps or on in lives.passes:
            continue
        given = _read(index, op, leaf_on) - {on}
        if len(given) == 1:
            by_statement.setdefault(index.op_statement[op], []).append((op, on, given.pop()))
    steps = sorted({op for ops in lives.steps.values() for op in ops})
    for statement, updates in by_statement.items():
        last_round = bisect_right(steps, updates[-1][0])
        current = {source for op, _, source in updates if bisect_right(steps, op) == last_round}
        changed = max((op for one in current for op in written.get(one, ())), default=NONE)
        since = [one for one in updates if one[0] > changed]
        rounds = {bisect_right(steps, op) for op, _, _ in since}
        if len(rounds) < ROUNDS or {source for _, _, source in since} != current or 0 in rounds:
            continue
        first, last = since[0][0], since[-1][0]
        if any(
            not index.requires_grad(leaf, last) or _is_used(index, leaf, statement, first, last) for leaf in current
        ):
            continue
        trained = [_trained_like(index, lives, leaf, current, first, last) for leaf in sorted(current)]
        if min(trained) >= 0:
            copies = dict.fromkeys(copy for _, copy, _ in since)
            yield AverageOfLeft(
                tuple(op for op, _, _ in since), tuple(copies), tuple(sorted(current)), tuple(trained), len(rounds)
            )


def _read(index: Index, op: int, leaf_on: dict[int, int]) -> set[int]:
    """The parameters, by their memory, of which a statement makes what a call of it writes."""
    found, todo, seen = set[int](), list(index.uses.of(op))[1:], set[int]()
    while todo:
        tensor = todo.pop()
        leaf, made = leaf_on.get(index.storage_at(tensor, op), NONE), index.made_by(tensor)
        if leaf >= 0:
            found.add(leaf)
        elif 0 <= made < op and made not in seen and index.op_statement[made] == index.op_statement[op]:
            seen.add(made)
            todo += index.uses.of(made)
    return found


def _is_used(index: Index, leaf: int, statement: int, first: int, last: int) -> bool:
    """Whether another statement takes in a parameter between two ops."""
    return any(first <= op <= last and index.op_statement[op] != statement for op in index.users.of(leaf))


def _trained_like(index: Index, lives: GradientLives, leaf: int, but: set[int], first: int, last: int) -> int:
    """A parameter of the same shape, of none of some, that steps change at least so often between two ops."""
    layouts = index.recording.tensors.column("layout")
    for other, steps in lives.steps.items():
        if other not in but and layouts[other] == layouts[leaf]:
            between = bisect_right(steps, last) - bisect_right(steps, first)
            if between >= ROUNDS - 1:
                return other
    return NONE
