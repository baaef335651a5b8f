"""Targets that a network gives itself (a reward and a discounted value of what follows), which gradients flow into."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.losses.factors import AS_IT_IS, called, maker, plain_name, tracked_uses
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index

_LOSSES = frozenset(("mse_loss", "smooth_l1_loss", "huber_loss", "l1_loss", "sub"))
_CHOOSES = AS_IT_IS | {"max", "amax", "min", "amin", "minimum", "gather", "stack", "cat", "values"}
_ADDS, _FACTORS = ("add",), ("mul", "multiply")
_STEPS = 40
"""Calls from a target to the value in it that are followed."""

_SAYS_SO = re.compile(r"gamma|discount|reward|done|terminal|bootstrap|\bnext_|_next\b|\btd_?", re.IGNORECASE)
"""Words of reinforcement learning: the sum alone may be any residual."""


class BootstrappedTarget(NamedTuple):
    """One loss whose target has a gradient."""

    loss: int
    target: int
    """The op of the sum."""
    value: int
    """The op that gave the value of what follows, or the last of those in the function of the sum."""
    tensor: int
    """The target."""
    followed: list[int]
    """The value of what follows in the first run, in each form in which it was handed on as it is, the first last."""
    leaves: list[int]
    """Leaves behind the target and the estimate alike."""


def bootstrapped_targets(index: Index, passes: Passes) -> Iterator[BootstrappedTarget]:
    """The last one of each line, of losses that a backward pass came through."""
    runs: dict[int, list[int]] = {}
    for op in index.calls_of(lambda name: plain_name(name) in _LOSSES):
        runs.setdefault(index.op_statement[op], []).append(op)
    for ops in sorted(runs.values(), key=lambda ops: ops[-1]):
        found = _of_loss(index, passes, ops[-1])
        if found is not None:
            first = _of_loss(index, passes, ops[0])  # (names are looked at in the first runs of all)
            yield found if first is None else found._replace(followed=first.followed)


def _of_loss(index: Index, passes: Passes, loss: int) -> BootstrappedTarget | None:
    nodes, walked = index.recording.tensors.column("node"), passes.first_walked_at
    made, taken = index.tensors_made(loss), tracked_uses(index, loss)
    if len(taken) != 2 or not made or nodes[made[0]] < 0 or walked[nodes[made[0]]] < 0:
        return None
    either = (_of_target(index, passes, loss, *pair) for pair in (taken, taken[::-1]))
    return next((found for found in either if found is not None), None)


def _of_target(index: Index, passes: Passes, loss: int, target: int, estimate: int) -> BootstrappedTarget | None:
    tensor, sums, factors, ops, forms = target, list[int](), 0, list[int](), [target]
    for _ in range(_STEPS):
        op = maker(index, tensor)
        name, taken = (called(index, op), tracked_uses(index, op)) if op >= 0 else ("", [])
        if not taken or (name not in _ADDS and name not in _FACTORS and name not in _CHOOSES):
            break
        if name in _ADDS or name in _FACTORS:
            if len(taken) > 1:
                return None
            if name in _FACTORS:
                factors += 1
            elif len(index.uses.of(op)) == 2:
                sums.append(op)
            forms = []
        ops.append(op)
        tensor = taken[0]
        forms.append(tensor)
    value = maker(index, tensor)
    if not sums or not factors or value < 0:
        return None
    if not any(_SAYS_SO.search(index.op_place(one).source) for one in (*ops, value)):
        return None
    leaves = _leaves(index, passes, tensor) & _leaves(index, passes, estimate)
    function = index.op_place(sums[0]).function
    there = [op for op in (*ops, value) if index.op_place(op).function == function]
    return BootstrappedTarget(loss, sums[0], there[-1], target, forms, sorted(leaves)) if leaves else None


def _leaves(index: Index, passes: Passes, tensor: int) -> set[int]:
    return passes.leaves_behind(index.recording.tensors.column("node")[tensor])
