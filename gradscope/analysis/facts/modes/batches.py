"""The data that a call in a model works on."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gradscope.analysis.index import Index
from gradscope.recording.flags import EXTERNAL, PARAMETER

_NORM = "F.batch_norm"
"""Takes its statistics behind its input."""


def batch_behind(index: Index, op: int) -> frozenset[int]:
    """What went into the model for a call in it that autograd followed: what no weights are behind."""
    nodes = index.recording.tensors.column("node")
    return _behind(index, op, lambda one: nodes[one] >= 0)


def untracked_batch_behind(index: Index, op: int, since: int) -> frozenset[int]:
    """The same for a call that autograd did not follow, of a model that was called after an op."""
    flags = index.recording.tensors.column("flags")
    known: dict[int, bool] = {}

    def leads_to_weights(tensor: int) -> bool:
        todo = [tensor]
        while todo:
            one = todo[-1]
            made = index.made_by(one)
            if one not in known and (flags[one] & EXTERNAL or not since < made < index.op_count):
                known[one] = False
            waiting = [] if one in known else [other for other in index.uses.of(made) if other not in known]
            waiting = [other for other in waiting if not flags[other] & PARAMETER and other not in todo]
            if one in known or not waiting:
                known.setdefault(
                    one, any(flags[other] & PARAMETER or known.get(other, False) for other in index.uses.of(made))
                )
                todo.pop()
            todo += waiting
        return known[tensor]

    return _behind(index, op, leads_to_weights)


def _behind(index: Index, op: int, leads_on: Callable[[int], bool]) -> frozenset[int]:
    flags = index.recording.tensors.column("flags")
    found, seen = set[int](), set[int]()
    todo: list[int] = list(index.uses.of(op)[:1])
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        made = index.made_by(one)
        taken: Iterable[int] = index.uses.of(made) if 0 <= made < index.op_count else ()
        if flags[one] & EXTERNAL or not leads_on(one):
            found.add(one)
        else:
            is_norm = index.func(made) == _NORM
            todo += [other for other in list(taken)[: 1 if is_norm else None] if not flags[other] & PARAMETER]
    return frozenset(found)
