"""Passes of an accumulation that ends at no round of a loop, and that the line at the round's begin threw away.

The steps come after equally many passes, whether a round began between them or not: the program counts these passes
on. A program that means to drop what is left over counts anew as well, and has more passes before the next step.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from math import gcd
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, last_before, ops_between
from gradscope.analysis.index import Index
from gradscope.recording import NONE

_PLACES = 2
"""Steps that lost passes from which on it is told, and of which there are more that had all."""


class ClearedRemainder(NamedTuple):
    """Parameters of which some steps applied fewer passes than all others, as a line cleared the rest."""

    tensors: tuple[int, ...]
    passes: int
    """Passes before every step, those that were thrown away among them."""
    gone: tuple[tuple[int, int, int], ...]
    """For each such step: the step, the op that cleared, and the number of passes whose gradients it threw away."""
    steps: int
    last_pass: int
    """The pass before the last such op."""


def cleared_remainders(index: Index, lives: GradientLives) -> Iterator[ClearedRemainder]:
    """One for each group of parameters that have had the same passes, steps and clearing calls."""
    alike: dict[tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...]], list[int]] = {}
    for tensor, stepped in lives.steps.items():
        if len(stepped) > 2 * _PLACES and tensor in lives.cleared:
            passes = lives.passes[tensor]
            cleared = tuple((bisect_left(passes, op), index.op_statement[op]) for op in lives.cleared[tensor])
            alike.setdefault((tuple(passes), tuple(stepped), cleared), []).append(tensor)
    for (given, steps, _), tensors in alike.items():
        windows = _windows(index, list(given), list(steps))
        count = len(windows[0][1]) if windows else 0
        if count < 2 or any(len(between) != count for _, between in windows):
            continue
        gone = list(_gone(windows, lives.cleared[tensors[0]]))
        is_told = _PLACES <= len(gone) < len(windows) - len(gone)
        if is_told and _is_unused(index, lives, windows, gone) and _is_of_rounds(index, windows, gone):
            last = last_before(list(given), gone[-1][1])
            yield ClearedRemainder(tuple(tensors), count, tuple(gone), len(windows), last)


def _windows(index: Index, passes: list[int], steps: list[int]) -> list[tuple[int, list[int]]]:
    """Each step with the passes since the one before, where all are of one line, and up to where that is known.

    It is not from where rounds were taken out that were alike: which passes belong to which step is lost there.
    """
    found, since, weights = list[tuple[int, list[int]]](), NONE, index.weights
    for step in steps:
        between = ops_between(passes, since, step)
        if not between or any(weights[op] != 1 for op in (*between, step)):
            break
        found.append((step, between))
        since = step
    is_one_line = len({index.op_statement[op] for _, between in found for op in between}) == 1
    return found if is_one_line and len({index.op_statement[step] for step, _ in found}) == 1 else []


def _gone(windows: list[tuple[int, list[int]]], cleared: list[int]) -> Iterator[tuple[int, int, int]]:
    """The steps before which something was cleared between two of their passes."""
    for step, between in windows:
        within = ops_between(cleared, between[0], between[-1])
        if within:
            yield step, within[-1], sum(op < within[-1] for op in between)


def _is_unused(
    index: Index, lives: GradientLives, windows: list[tuple[int, list[int]]], gone: list[tuple[int, int, int]]
) -> bool:
    """Whether nothing but what clears took the gradients that were thrown away."""
    cleared_at = {op for ops in lives.cleared.values() for op in ops}
    passes = dict(windows)
    return not any(
        op < use < cleared and use not in cleared_at
        for step, cleared, count in gone
        for op in passes[step][:count]
        for gradient in lives.given.get(op, ())
        for use in index.users.of(gradient)
    )


def _is_of_rounds(index: Index, windows: list[tuple[int, list[int]]], gone: list[tuple[int, int, int]]) -> bool:
    """Whether one line threw them all away, and runs each time after equally many passes.

    A line that clears what a bad batch gave runs when there is one. Right behind a step there is nothing to clear, and
    a call that clears nothing may not have been recorded.
    """
    statements = {index.op_statement[cleared] for _, cleared, _ in gone}
    passes = [op for _, between in windows for op in between]
    runs = [op for op in index.calls_of(index.func(gone[0][1]).__eq__) if index.op_statement[op] in statements]
    before = {bisect_left(passes, op) for op in runs if op < passes[-1]} - {0}
    behind_steps = range(0, len(passes), len(windows[0][1]))
    begun = range(0, len(passes), gcd(*before))
    return len(statements) == 1 and before.union(behind_steps).issuperset(begun)
