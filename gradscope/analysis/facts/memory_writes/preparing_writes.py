"""Writes that prepare data in place: what they do to what is there, and whether one is the same as another."""

from __future__ import annotations

from collections.abc import Iterable

from gradscope.analysis.facts.losses.factors import AS_IT_IS, called, maker
from gradscope.analysis.facts.memory_writes.stacked_writes import is_drawing, is_random
from gradscope.analysis.index import Index

_ADDS, _FACTORS = frozenset(("add", "sub")), frozenset(("mul", "div"))
_FUNCTIONS = frozenset(("log", "log1p", "log2", "log10", "exp", "expm1", "sqrt", "square", "pow", "tanh", "sigmoid"))
_ORDERS = frozenset(("flip", "fliplr", "flipud", "roll", "rot90"))
_MASKED = frozenset(("setitem", "masked_fill"))
_SETTLES = frozenset(("clamp", "clip", "clamp_min", "clamp_max", "abs", "nan_to_num", "relu"))
"""Writes that change nothing the second time."""

UNDOES = (_ADDS, _FACTORS)
"""Of such a pair one may take back what the other did."""

_VIEWS = AS_IT_IS | {"getitem"}
_CONSTANTS = frozenset(("tensor", "as_tensor", "full"))
_STEPS = 4
"""Calls from an operand back to where its numbers come from."""

_FOLLOWED = 400
"""Calls behind a tensor in which it is looked for what is trained."""


def kind_of_write(index: Index, op: int) -> str:
    """What a write does to what is there; empty for what this is not known of."""
    name, uses = called(index, op), list(index.uses.of(op))
    if name in _SETTLES or (name == "setitem" and len({index.storage_at(one, op) for one in uses}) == 1):
        return "settles"  # (``x[:3] -= 1`` puts back into x what is x already)
    if name in _MASKED and len(uses) > 1 and is_drawn_mask(index, uses[1]):
        return "random"
    if name in _FUNCTIONS or name in _ORDERS:
        kind = "function" if name in _FUNCTIONS else "order"
        return kind if len(uses) == 1 else ""
    if name not in _ADDS | _FACTORS:
        return ""
    if len(uses) == 1:
        return "factor" if name in _FACTORS else "number"
    return "random" if is_random(index, op) else "factor" if name in _FACTORS else "tensor"


def is_same_write(index: Index, before: int, now: int, is_scaled: bool) -> bool:
    """Whether two ops are the same write of one statement, with the same second operand, or one that is drawn."""
    taken = [list(index.uses.of(op)) for op in (before, now)]
    is_one = index.op_statement[before] == index.op_statement[now] and called(index, before) == called(index, now)
    if not is_one or len(taken[0]) != len(taken[1]) or len(taken[0]) < 2 or kind_of_write(index, before) == "settles":
        return is_one and len(taken[0]) == len(taken[1])
    if kind_of_write(index, before) == kind_of_write(index, now) == "random":
        return True
    first, second = (_viewed(index, uses[1]) for uses in taken)
    made = [_constant(index, one) for one in (first, second)]
    return first == second or (
        is_scaled and min(made) >= 0 and index.op_statement[made[0]] == index.op_statement[made[1]]
    )


def is_drawn_mask(index: Index, tensor: int) -> bool:
    """Whether random numbers are among what a mask was computed from: those less than a rate."""
    layout = index.recording.layouts[index.recording.tensors.column("layout")[tensor]]
    if not index.recording.text(layout.dtype).endswith("bool"):
        return False
    todo = {tensor}
    for _ in range(_STEPS):
        made = [op for one in todo if (op := maker(index, one)) >= 0]
        if any(is_drawing(index, op) for op in made):
            return True
        todo = {used for op in made for used in index.uses.of(op)}
    return False


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


def meets_trained(index: Index, written: Iterable[int], after: int) -> bool:
    """Whether one of some tensors goes, after an op, into a call together with what requires grad."""
    todo, left = list(written), _FOLLOWED
    seen = set(todo)
    while todo and left:
        for op in index.users.of(todo.pop()):
            if op < after:
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
