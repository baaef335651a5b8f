"""Norms and variances in float16 that are infinite: squares, or their sum, are larger than a number in it can be."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.leaf_gradients.vanished_eps import dtype_of
from gradscope.analysis.facts.losses.factors import AS_IT_IS, called, maker
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.value_looks import PassLook, Range, is_bad, is_zero
from gradscope.analysis.index import Index

LARGEST = 65_504.0
"""The largest number in float16."""

_STEPS = 12
"""Calls that are followed, back from where an infinity was kept or on from there."""

_ENDS = {
    "SqrtBackward0": ("result", math.inf),
    "RsqrtBackward0": ("result", 0.0),
    "DivBackward0": ("other", math.inf),
    "ReciprocalBackward0": ("self", math.inf),
    "PowBackward0": ("self", math.inf),
}
"""Nodes that keep what shows an infinity, and as which value."""

_SUMS = frozenset(("sum", "cumsum"))
_HAND_ON = AS_IT_IS | _SUMS | frozenset(("mean", "add", "sqrt", "half", "clamp", "clamp_min", "maximum", "abs"))
"""What gives an infinity only if it is given one, but for sums."""

_ORIGINS = frozenset(("var", "matmul", "mm", "bmm", "einsum", "norm", "vector_norm", "dot"))
"""What may give an infinity for finite numbers, apart from squares."""

_SQUARES = frozenset(("pow", "square", "mul"))
_POWER = re.compile(r"(?:\*\*\s*|\bpow\((?:.*[,\s])?(?:exponent=)?)(\d+)(?:\.0*)?\)?$")


class OverflownHalf(NamedTuple):
    """An infinity in the first pass in which it was seen."""

    op: int
    """The call that gave it."""
    taken: int
    """What it took: what was squared, for a sum."""
    largest: float
    """The largest of that, without its sign."""
    ends: int
    """The call at which it becomes a zero, or divides: a root, a quotient."""
    is_everywhere: bool
    """Whether all of it is infinite."""
    leaves: tuple[int, ...]
    """Leaves behind it whose gradient was all zeros; none where it is infinite in some places only."""
    look: PassLook


def overflown_halves(index: Index, passes: Passes, looks: list[PassLook]) -> Iterator[OverflownHalf]:
    """One for each call, where leaves behind it get zeros, or what it is the norm of is divided by it."""
    told = set[int]()
    names, made_by = (index.recording.nodes.column(name) for name in ("name", "op"))
    for look in looks:
        if look.bad_roots or look.bad_gradients:
            continue
        for one in look.kept:
            attr, value = _ENDS.get(index.recording.text(names[one.node]), ("", math.nan))
            op = made_by[one.node]
            if attr != one.attr or value not in one.values or not 0 <= op < index.op_count or not _is_half(index, op):
                continue
            found = _WayBack(index, look).origin(op)
            if found is None or index.op_statement[found[0]] in told:
                continue
            is_everywhere = one.values == (value, value)
            leaves = tuple(
                leaf
                for leaf in passes.leaves_behind(one.node)
                if is_everywhere and leaf in look.gradients and is_zero(look.gradients[leaf])
            )
            if leaves or _divides(index, op, found[1]):
                told.add(index.op_statement[found[0]])
                yield OverflownHalf(*found, op, is_everywhere, leaves, look)


def _is_half(index: Index, op: int) -> bool:
    made = index.tensors_made(op)
    return bool(made) and dtype_of(index, index.layout_at(made[0], op)) == "float16"


class _WayBack:
    """The way back from where an infinity was kept, in what was looked at before one pass."""

    def __init__(self, index: Index, look: PassLook) -> None:
        self._index = index
        made_by = index.recording.nodes.column("op")
        self._kept: dict[int, list[Range]] = {}
        for one in look.kept:
            self._kept.setdefault(made_by[one.node], []).append(one.values)

    def origin(self, end: int) -> tuple[int, int, float] | None:
        """The call that first gave an infinity, what it took, and the largest of that; None where it is not known."""
        index = self._index
        taken = list(index.uses.of(end))
        todo = taken[1:] if called(index, end) in ("div", "truediv") else taken[:1]
        sums: list[int] = []
        for _ in range(_STEPS):
            if len(todo) != 1 or (op := maker(index, todo[0])) < 0 or not _is_half(index, op):
                return None
            name = called(index, op)
            uses = list(dict.fromkeys(index.uses.of(op)))
            if name in _SQUARES or name in _ORIGINS:
                return self._of_call(op, name, uses, sums)
            if name not in _HAND_ON:
                return None
            sums += [op] if name in _SUMS else []
            todo = uses[:1] if name != "add" else [one for one in uses if _is_made(index, one)]
        return None

    def _of_call(self, op: int, name: str, uses: list[int], sums: list[int]) -> tuple[int, int, float] | None:
        values = self._kept.get(op, [])
        if not uses or not values or any(map(is_bad, values)):
            return None
        largest = max(abs(end) for ends in values for end in ends)
        if name in _ORIGINS:
            return (op, uses[0], largest) if not sums else None
        power = self._power(op, name, uses)
        if power is None:
            return None
        if largest**power > LARGEST:
            return op, uses[0], largest
        return (sums[-1], uses[0], largest) if sums else None

    def _power(self, op: int, name: str, uses: list[int]) -> int | None:
        if name == "mul":
            return 2 if len(uses) == 1 and len(self._index.uses.of(op)) == 2 else None
        if name == "square":
            return 2
        written = _POWER.search(self._index.span_source(op, exact=True).strip())
        return int(written[1]) if written is not None and 2 <= int(written[1]) <= 8 else None


def _is_made(index: Index, tensor: int) -> bool:
    """Whether a tensor was computed, and is no number that is added."""
    return maker(index, tensor) >= 0 and index.requires_grad(tensor, index.op_count)


def _divides(index: Index, op: int, squared: int) -> bool:
    """Whether what was squared is divided by the root at an op, or multiplied with its inverse."""
    own = _computed_as(index, squared)
    if called(index, op) in ("div", "truediv"):
        return any(_computed_as(index, one) == own for one in list(index.uses.of(op))[:1])
    todo, seen = list(index.tensors_made(op)), set[int]()
    for _ in range(_STEPS):
        if not todo:
            return False
        tensor = todo.pop()
        for user in index.users.of(tensor):
            uses = list(index.uses.of(user))
            if user in seen or user <= op:
                continue
            seen.add(user)
            if called(index, user) in ("div", "truediv", "mul"):
                if any(one != tensor and _computed_as(index, one) == own for one in uses):
                    return True
            elif called(index, user) in _HAND_ON:
                todo += index.tensors_made(user)
    return False


def _computed_as(index: Index, tensor: int) -> tuple[object, ...]:
    """What tells a tensor, and one that another call computed of the same: ``x - mean``, written twice."""
    op = maker(index, tensor)
    taken = tuple(index.uses.of(op)) if op >= 0 else ()
    return (called(index, op), *taken) if len(taken) > 1 and called(index, op) == "sub" else (tensor,)
