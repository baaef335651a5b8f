"""Gradients of the last rounds of a loop that came to no step, and that the first step of the next run applied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, last_before, ops_between
from gradscope.analysis.index import Index
from gradscope.recording import NONE


class LeftRemainder(NamedTuple):
    """Parameters of which some steps applied more passes than all others."""

    tensors: tuple[int, ...]
    step: int
    """The last such step."""
    passes: int
    """Passes before every other step."""
    left: int
    """Passes that such a step had besides."""
    times: int
    """Such steps."""


def left_remainders(index: Index, lives: GradientLives) -> Iterator[LeftRemainder]:
    """One for each group of parameters that have had the same passes and steps."""
    alike: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
    for tensor, stepped in lives.steps.items():
        if tensor in lives.cleared:
            alike.setdefault((tuple(lives.passes[tensor]), tuple(stepped)), []).append(tensor)
    for (passes, steps), tensors in alike.items():
        counts = _counts(index, list(passes), list(steps), lives.cleared[tensors[0]])
        found = _remainder(counts)
        if found is not None:
            usual, left = found
            longer = [step for step, count in zip(steps, counts, strict=False) if count > usual]
            yield LeftRemainder(tuple(tensors), longer[-1], usual, left, len(longer))


def _counts(index: Index, passes: list[int], steps: list[int], cleared: list[int]) -> list[int]:
    """How many passes each step applied, none of them twice and all of one line, up to where that is not known.

    It is not from where others were taken out that were alike: which passes belong to which step is lost there.
    """
    counts, since, weights = list[int](), NONE, index.weights
    for step in steps:
        between = ops_between(passes, since, step)
        is_known = between and all(weights[op] == 1 for op in (*between, step))
        if not is_known or len({index.op_statement[op] for op in between}) > 1:
            break
        gone = last_before(cleared, step)
        if gone > between[0] or (since >= 0 and gone < since):
            break
        counts.append(len(between))
        since = step
    return counts


def _remainder(counts: list[int]) -> tuple[int, int] | None:
    """The usual number of passes and what was left over, where some steps have the same number more than all others.

    If each run of a loop makes so many steps and leaves a remainder, the first step has the usual number, and the first
    one of each later run has the remainder as well: these are equally far from one another.
    """
    usual = counts[0] if counts else 0
    longer = [position for position, count in enumerate(counts) if count != usual]
    left = counts[longer[0]] - usual if longer else 0
    if not 0 < left < usual or {counts[position] for position in longer} != {usual + left}:
        return None
    is_regular = longer == list(range(longer[0], len(counts), longer[0]))
    return (usual, left) if is_regular else None
