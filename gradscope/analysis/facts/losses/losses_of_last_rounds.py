"""Losses that a loop computes in each of its rounds, of which the pass after the loop gets the last one alone."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.writes import all_steps
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.blocks.passes_after_loops import AfterLoop, after_loop
from gradscope.recording import NONE
from gradscope.recording.flags import GRAD
from gradscope.recording.rows import OpKind

WASTED = 3
"""Losses without a pass from which on it is reported."""
_FOLLOWED = 2_000
"""Tensors that a loss was made of that are followed."""


class LossOfLastRound(NamedTuple):
    """One statement that makes such passes."""

    passes: list[int]
    loop: AfterLoop
    losses: list[int]
    """The calls (ops) that gave losses which no pass came to."""
    step: int
    """The first step after the last pass."""


def losses_of_last_rounds(index: Index, passes: Passes) -> Iterator[LossOfLastRound]:
    """One for each statement, if all its passes are such."""
    by_statement: dict[int, list[int]] = {}
    for op in index.of_kind(OpKind.BACKWARD):
        by_statement.setdefault(index.op_statement[op], []).append(op)
    steps = all_steps(index)
    for statement, ops in by_statement.items():
        if statement == NOWHERE:
            continue
        place = index.statements[statement]
        file = index.recording.files[place.file]
        loop = after_loop(file.text, place.line) if file.is_user else None
        if loop is None:
            continue
        losses, last = list[int](), NONE
        for op in ops:
            rounds = _rounds(index, op, last)
            made = rounds[:-1]
            if not made or not all(_is_wasted(index, passes, one) for one in made) or _depend(index, rounds):
                losses = []
                break
            losses, last = losses + made, op
        at = bisect_left(steps, ops[-1])
        if len(losses) >= WASTED and at < len(steps):
            yield LossOfLastRound(ops, loop, losses, steps[at])


def _rounds(index: Index, pass_op: int, since: int) -> list[int]:
    """The calls, since another op, at the place of the one that made what a pass starts from."""
    roots = index.roots.get(pass_op, [])
    made = index.made_by(roots[0]) if len(roots) == 1 else NONE
    while 0 <= made < pass_op and index.op_statement[made] == index.op_statement[pass_op]:
        taken = [one for one in index.uses.of(made) if index.requires_grad(one, made)]
        made = index.made_by(taken[0]) if len(taken) == 1 else NONE  # (scaled, or divided by the number of rounds)
    if not since < made < pass_op:
        return []
    spans, funcs, flags = (index.recording.ops.column(name) for name in ("span", "func", "flags"))
    return [
        op
        for op in range(since + 1, made + 1)
        if spans[op] == spans[made] and funcs[op] == funcs[made] and flags[op] & GRAD
    ]


def _is_wasted(index: Index, passes: Passes, op: int) -> bool:
    """Whether no pass came to any node behind what a call gave, and none takes it on."""
    nodes, variables = index.recording.tensors.column("node"), index.recording.nodes.column("variable")
    made = [nodes[one] for one in index.tensors_made(op) if nodes[one] >= 0]
    behind = passes.behind(made[0]) if len(made) == 1 else []
    return bool(behind) and all(passes.first_walked_at[one] < 0 for one in behind if variables[one] < 0)


def _depend(index: Index, rounds: list[int]) -> bool:
    """Whether a loss was made of more than single numbers that a round before it had made."""
    for before, (first, op) in enumerate(pairwise(rounds)):
        since = rounds[before - 1] if before else NONE
        todo, seen = list(index.uses.of(op)), set[int]()
        while todo:
            tensor = todo.pop()
            made = index.made_by(tensor)
            if tensor in seen or made < 0:
                continue
            seen.add(tensor)
            if len(seen) > _FOLLOWED:
                return True
            if made > first:
                todo += index.uses.of(made)
            elif since >= 0 and made > since and not index.has_one_element(tensor):
                return True
    return False
