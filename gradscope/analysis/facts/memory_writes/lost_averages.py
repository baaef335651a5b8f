"""Averages of weights that are computed, and that nothing ever gets: the old average stays as it is."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.writes import last_written
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import BindingKind

RUNS = 2
"""Runs of the statement from which on it is reported."""


class LostAverage(NamedTuple):
    """What one statement computed in all of its runs."""

    op: int
    """The last of the statement."""
    averages: list[int]
    """The tensors that were to be written, as far as they were seen under the name that the statement gives anew."""
    weights: list[int]
    """What a step of an optimizer writes, and the statement mixes into them."""
    runs: int


def lost_average(index: Index, lives: GradientLives, last: int, name: str) -> LostAverage | None:
    """What a statement mixes of a name's tensor and a weight, and drops.

    Args:
        index: The recording.
        lives: Of its gradients.
        last: The last op of the statement.
        name: What the statement gives the result to.
    """
    statement = index.op_statement[last]
    ops = [op for op in range(last + 1) if index.op_statement[op] == statement]
    own = {made for op in ops for made in index.tensors_made(op)}
    if any(index.op_statement[user] != statement for made in own for user in index.users.of(made)):
        return None
    taken = {tensor: op for op in reversed(ops) for tensor in index.uses.of(op) if tensor not in own}
    stepped = {index.storage_at(leaf, steps[-1]) for leaf, steps in lives.steps.items()}
    weights = [tensor for tensor, op in taken.items() if index.storage_at(tensor, op) in stepped]
    written, died = last_written(index), index.recording.tensors.column("died")
    averages = [
        tensor
        for tensor in sorted(named_in(index, name, statement) & taken.keys() - set(weights))
        if not index.requires_grad(tensor, taken[tensor])
        and written.get(index.storage_at(tensor, last), NONE) < taken[tensor]
        and not 0 <= died[tensor] <= last
    ]
    runs = index.times(op for op in ops if index.op_statement[op] == statement and index.func(op) == index.func(last))
    return LostAverage(last, averages, weights, runs) if averages and weights and runs >= RUNS else None


def named_in(index: Index, name: str, statement: int) -> set[int]:
    """The tensors that a statement was seen to read under a name."""
    bindings = index.recording.bindings
    columns = (bindings.column(column) for column in ("name", "tensor", "op", "kind"))
    return {
        tensor
        for text, tensor, op, kind in zip(*columns, strict=True)
        if kind == BindingKind.LOAD
        and op < index.op_count
        and index.op_statement[op] == statement
        and index.recording.text(text) == name
    }
