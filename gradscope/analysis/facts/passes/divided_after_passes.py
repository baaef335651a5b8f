"""Losses of an accumulation that are divided when backward has run for them: nothing takes the mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.frames.blocks.rescaled_names import counts_passes, rescaled_names
from gradscope.recording.rows import OpKind

_LEAST = 3
"""Divisions from which on it counts."""


class DividedAfterPasses(NamedTuple):
    """One statement that divides in vain."""

    op: int
    """The last division."""
    passed: int
    """The pass from what it divides."""
    name: str
    number: str
    """As it is written."""
    added: int
    """How many passes a step applied at once."""
    runs: int
    tensor: int


def divided_after_passes(index: Index, lives: GradientLives, passes: Passes) -> Iterator[DividedAfterPasses]:
    """One for each statement of the user's."""
    kinds = index.recording.ops.column("kind")
    passed_from: dict[int, list[int]] = {}
    for op, roots in index.roots.items():
        for root in roots if kinds[op] == OpKind.BACKWARD else ():
            passed_from.setdefault(root, []).append(op)
    by_statement: dict[int, list[int]] = {}
    for root, at in passed_from.items():
        for op in index.users.of(root) if len(at) == 1 else ():
            if op > at[0] and index.method(op) in ("Tensor.div", "Tensor.div_"):
                by_statement.setdefault(index.op_statement[op], []).append(op)
    for statement, ops in by_statement.items():
        where = index.statements[statement]
        text = index.recording.files[where.file].text if where.file >= 0 else ""
        rescaled = rescaled_names(text).get(where.line)
        if rescaled is None or index.times(ops) < _LEAST or not all(_is_in_vain(index, passes, op) for op in ops):
            continue
        passed = [passed_from[index.uses.of(op)[0]][0] for op in ops]
        step, added = _added(lives, passed)
        if added < 2 or index.statements[index.op_statement[step]].file != where.file:
            continue
        number = counts_passes(text, where.line, index.op_line(step), added)
        if number:
            last = max(ops)
            yield DividedAfterPasses(
                last, max(passed), rescaled.name, number, added, index.times(ops), index.uses.of(last)[0]
            )


def _is_in_vain(index: Index, passes: Passes, op: int) -> bool:
    """Whether a division gave a result with a graph that no pass came through: under no_grad it is for a look only."""
    nodes = index.recording.tensors.column("node")
    made = [*index.tensors_made(op), *index.results.of(op)]
    given = [nodes[one] if op == index.recording.tensors.column("op")[one] else index.node_after(one) for one in made]
    return bool(given) and all(node >= 0 and passes.first_walked_at[node] < 0 for node in given)


def _added(lives: GradientLives, passed: list[int]) -> tuple[int, int]:
    """A step that applies most of some passes at once to a parameter whose gradient nobody wrote, and how many."""
    of_line, step, most = set(passed), -1, 0
    for tensor, steps in lives.steps.items():
        own = [op for op in lives.passes[tensor] if op in of_line]
        if not own or tensor in lives.put:
            continue
        for one in sorted({first_after(steps, op) for op in own} - {-1}):
            applied = [op for op in lives.applied(tensor, one) if op in of_line]
            if len(applied) > most:
                step, most = one, len(applied)
    return step, most
