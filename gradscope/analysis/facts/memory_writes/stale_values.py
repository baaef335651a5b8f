"""Values of a small trained leaf that were taken once, without a graph, and weigh a loss after each of its steps.

``alpha = log_alpha.exp().detach()`` before the loop (or ``item()``), and ``alpha * log_prob`` in it: the temperature is
trained by a loss of its own, and the other loss goes on with what it was at first.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.writes import last_written
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.names.given_once import is_given_once
from gradscope.frames.values.value_slices import lines_behind, operands
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind

STEPS = 3
"""Steps of the leaf, each followed by a use of the old values."""
_PRODUCTS = frozenset(
    f"Tensor.{name}" for name in ("mul", "div", "rdiv", "__rdiv__", "__rtruediv__", "mul_", "div_", "pow")
)
_MOST = 200
"""Calls with what was made of a leaf that are looked at."""


class StaleValue(NamedTuple):
    """What was taken of one leaf."""

    leaf: int
    op: int
    """The call that gave the tensor, or took the number out of torch."""
    tensor: int
    """The tensor; NONE for a number."""
    used: int
    """The last call that computed with it."""
    steps: tuple[int, ...]
    """Steps of the leaf that such a call followed."""


def stale_values(index: Index, passes: Passes, lives: GradientLives) -> Iterator[StaleValue]:
    """One for each call that took such values."""
    for leaf, steps in lives.steps.items():
        if len(steps) < STEPS or not _is_small(index, leaf):
            continue
        taken = _taken(index, leaf)
        for op, tensor in taken:
            if op > steps[0] or not _ran_once(index, op):
                continue
            if tensor >= 0:
                uses = [one for one in index.users.of(tensor) if _weighs(index, passes, lives, one, leaf)]
            else:
                uses = _uses_of_number(index, passes, lives, op, leaf)
            followed = {bisect_right(steps, one) - 1 for one in uses if one > steps[0]} - {-1}
            if len(followed) < STEPS:
                continue
            if tensor < 0 or last_written(index).get(index.storage_at(tensor, op), NONE) <= op:
                yield StaleValue(leaf, op, tensor, max(uses), tuple(steps[at] for at in sorted(followed)))


def _is_small(index: Index, leaf: int) -> bool:
    """Whether a leaf is a number or a row of numbers: a temperature, multipliers."""
    return _shape(index, leaf).count(",") <= 1


def _shape(index: Index, tensor: int) -> str:
    return index.recording.text(index.recording.layouts[index.recording.tensors.column("layout")[tensor]].shape)


def _taken(index: Index, leaf: int) -> list[tuple[int, int]]:
    """The calls that gave values of a leaf alone without a graph, of its shape: with the tensor; NONE for a number."""
    kinds, alone, found, stack = index.recording.ops.column("kind"), {leaf}, list[tuple[int, int]](), [leaf]
    looked = 0
    while stack and looked < _MOST:
        for user in index.users.of(stack.pop()):
            looked += 1
            if not alone.issuperset(index.uses.of(user)):
                continue
            if kinds[user] == OpKind.EXPORT and index.has_one_element(leaf):
                found.append((user, NONE))
            for made in index.tensors_made(user) if kinds[user] == OpKind.CALL else ():
                if made not in alone and _shape(index, made) == _shape(index, leaf):
                    alone.add(made)
                    stack.append(made)
                    if not index.requires_grad(made, user + 1) and index.storage_at(made, user) != index.storage_at(
                        leaf, user
                    ):
                        found.append((user, made))
    return sorted(found)


def _ran_once(index: Index, op: int) -> bool:
    """Whether the call's line ran once: no round computes the values anew there."""
    statement, spans = index.op_statement[op], index.recording.ops.column("span")
    return statement != NOWHERE and index.call_counts[spans[op], index.recording.ops.column("func")[op]] == 1


def _weighs(index: Index, passes: Passes, lives: GradientLives, op: int, leaf: int) -> bool:
    """Whether a call multiplies with a tracked tensor, and a pass came through that which did not train the leaf."""
    made = index.tensors_made(op)
    if index.method(op) not in _PRODUCTS or len(made) != 1:
        return False
    node = index.recording.tensors.column("node")[made[0]]
    walked = passes.first_walked_at[node] if node >= 0 else NONE
    return walked >= 0 and walked not in lives.passes.get(leaf, ())


def _uses_of_number(index: Index, passes: Passes, lives: GradientLives, export: int, leaf: int) -> list[int]:
    """The calls that are given a number by the text, under a name that nothing gives another one."""
    where, own = index.statements[index.op_statement[export]], index.op_line(export)
    text = index.recording.files[where.file].text if where.file >= 0 else ""
    if not is_given_once(text, own):
        return []
    known: dict[int, bool] = {}
    found: list[int] = []
    for op in index.calls_of_methods(*_PRODUCTS):
        span = index.recording.ops.column("span")[op]
        if op < export or len(index.uses.of(op)) != 1 or span < 0:
            continue
        if span not in known:
            is_here = index.statements[index.op_statement[op]].file == where.file
            sides = operands(index.span_source(op, exact=True)) if is_here else []
            known[span] = sum(own in lines_behind(text, index.op_line(op), one) for one in sides) == 1
        if known[span] and _weighs(index, passes, lives, op, leaf):
            found.append(op)
    return found
