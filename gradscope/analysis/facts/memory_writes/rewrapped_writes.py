"""Arrays that are prepared in place through a tensor on them, again each time that a tensor is put on them.

``torch.from_numpy(self.images[i])`` shares the array's memory: ``sub_(mean).div_(std)`` on it changes the data set, and
in the next epoch what was normalised is normalised again. That the bytes were as the last time left them was seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.losses.factors import AS_IT_IS, called, maker
from gradscope.analysis.facts.memory_writes.stacked_writes import is_random
from gradscope.analysis.index import Index
from gradscope.recording.rows import EventKind

_ADDS, _FACTORS = frozenset(("add", "sub")), frozenset(("mul", "div"))
_SETTLES = frozenset(("clamp", "clip", "clamp_min", "clamp_max", "abs", "nan_to_num", "relu"))
"""Writes that change nothing the second time."""

_UNDOES = (frozenset(("add", "sub")), frozenset(("mul", "div")))
"""Of such a pair one may take back what the other did."""

_VIEWS = AS_IT_IS | {"getitem"}
_CONSTANTS = frozenset(("tensor", "as_tensor", "full"))
_STEPS = 4
"""Calls from an operand back to where its numbers come from."""

_FOLLOWED = 400
"""Calls behind a tensor in which it is looked for what is trained."""


class RewrappedWrites(NamedTuple):
    """The writes of one place at which tensors are put on arrays."""

    writes: tuple[int, ...]
    """One op for each statement, of the last time."""
    span: int
    """Where the tensors are put on the arrays."""
    tensor: int
    times: int
    """How often in a row the same memory was written so."""
    row: int
    """Of ``events``."""


def rewrapped_writes(index: Index, events: Events) -> Iterator[RewrappedWrites]:
    """One for each place, where what is prepared so goes into what is trained."""
    by_place: dict[int, dict[tuple[int, ...], list[Happened]]] = {}
    for event in events.of(EventKind.WRITTEN_AGAIN):
        span = event.span if event.span >= 0 else _span(index, event.detail.get("op"))
        before = tuple(op for op in event.detail.get("before", ()) if isinstance(op, int) and 0 <= op < index.op_count)
        if 0 <= event.subject < index.op_count and event.tensors and span >= 0:
            by_place.setdefault(span, {}).setdefault(before, []).append(event)
    for span, rounds in by_place.items():
        again = [now for before, now in rounds.items() if _is_again(index, before, [one.subject for one in now])]
        used = next((now[-1] for now in reversed(again) if _meets_trained(index, now[-1])), None)
        if used is not None:
            writes = {index.op_statement[one.subject]: one.subject for now in again for one in now}
            times = max(int(now[-1].detail.get("times", 0)) for now in again)
            yield RewrappedWrites(tuple(writes.values()), span, used.tensors[0], times, used.row)


def _span(index: Index, op: object) -> int:
    return index.recording.ops.column("span")[op] if isinstance(op, int) and 0 <= op < index.op_count else -1


def _is_again(index: Index, before: tuple[int, ...], now: list[int]) -> bool:
    """Whether the writes through one tensor are those through the one before, and such as prepare data."""
    names = {called(index, op) for op in before}
    if len(before) != len(now) or any(pair <= names for pair in _UNDOES):
        return False
    kinds = {_kind(index, op) for op in before}
    if "" in kinds or kinds.isdisjoint(("factor", "tensor", "random")):
        return False
    return all(_is_same(index, *both, "factor" in kinds) for both in zip(before, now, strict=True))


def _kind(index: Index, op: int) -> str:
    """What a write does to what is there; empty for what this is not known of."""
    name, uses = called(index, op), list(index.uses.of(op))
    if name in _SETTLES or (name == "setitem" and len({index.storage_at(one, op) for one in uses}) == 1):
        return "settles"  # (``x[:3] -= 1`` puts back into x what is x already)
    if name not in _ADDS | _FACTORS:
        return ""
    if len(uses) == 1:
        return "factor" if name in _FACTORS else "number"
    return "random" if is_random(index, op) else "factor" if name in _FACTORS else "tensor"


def _is_same(index: Index, before: int, now: int, is_scaled: bool) -> bool:
    """Whether two ops are the same write of one statement, with the same second operand, or one that is drawn."""
    taken = [list(index.uses.of(op)) for op in (before, now)]
    is_one = index.op_statement[before] == index.op_statement[now] and called(index, before) == called(index, now)
    if not is_one or len(taken[0]) != len(taken[1]) or len(taken[0]) < 2 or _kind(index, before) == "settles":
        return is_one and len(taken[0]) == len(taken[1])
    if is_random(index, before) and is_random(index, now):
        return True
    first, second = (_viewed(index, uses[1]) for uses in taken)
    made = [_constant(index, one) for one in (first, second)]
    return first == second or (
        is_scaled and min(made) >= 0 and index.op_statement[made[0]] == index.op_statement[made[1]]
    )


def _viewed(index: Index, tensor: int) -> int:
    """What a tensor is a view of, or was made from as it is."""
    for _ in range(_STEPS):
        op = maker(index, tensor)
        uses = list(index.uses.of(op)) if op >= 0 else []
        if not uses or called(index, op) not in _VIEWS:
            break
        tensor = uses[0]
    return tensor


def _constant(index: Index, tensor: int) -> int:
    """The op that made a tensor from numbers; -1 for others."""
    op = maker(index, tensor)
    return op if op >= 0 and not index.uses.of(op) and called(index, op) in _CONSTANTS else -1


def _meets_trained(index: Index, event: Happened) -> bool:
    """Whether what was written goes into a call together with what requires grad."""
    todo, seen, left = [event.tensors[0]], {event.tensors[0]}, _FOLLOWED
    while todo and left:
        for op in index.users.of(todo.pop()):
            if op < event.subject:
                continue
            left -= 1
            if any(index.requires_grad(one, op) for one in index.uses.of(op)):
                return True
            if left <= 0:
                break
            new = [one for one in (*index.tensors_made(op), *index.results.of(op)) if one not in seen]
            seen.update(new)
            todo += new
    return False
