"""Losses that a loop computes in each of its rounds, of which the pass after the loop gets the last one alone."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.writes import all_steps
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.blocks.passes_after_loops import (
    AfterLoop,
    ReturnedOfLastRound,
    after_loop,
    returned_of_last_rounds,
)
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


class ReturnedLoss(NamedTuple):
    """The losses of a loop of a function, which returns that of its last round."""

    passes: list[int]
    file: int
    returned: ReturnedOfLastRound
    losses: list[int]
    """The calls (ops) that gave losses which no pass came to."""


def losses_of_returned_rounds(index: Index, passes: Passes) -> Iterator[ReturnedLoss]:
    """One for each function that returns such losses, if all passes that begin at what it returns are such."""
    files = [(number, file.text) for number, file in enumerate(index.recording.files) if file.is_user]
    known = [(file, one) for file, text in files for one in returned_of_last_rounds(text)]
    bound = _names_in(index) if known else {}
    for file, returned in known:
        ops, losses, last = list[int](), list[int](), NONE
        for op in index.of_kind(OpKind.BACKWARD):
            rounds = _rounds(index, op, last, (file, returned.ends))
            last = op
            if len(rounds) < 2 or not _is_of(index, file, returned, rounds, bound):
                continue
            tops = [index.recording.tensors.column("node")[one] for at in rounds[:-1] for one in index.tensors_made(at)]
            if any(node < 0 or passes.first_walked_at[node] >= 0 for node in tops) or _depend(index, rounds):
                ops = []
                break
            ops, losses = [*ops, op], [*losses, *rounds[:-1]]
        if len(losses) >= WASTED and len(ops) > 1:
            yield ReturnedLoss(ops, file, returned, losses)


def _names_in(index: Index) -> dict[int, set[tuple[str, int, int]]]:
    """For each tensor the names that were seen to hold it, with file and line."""
    bindings, spans, text = index.recording.bindings, index.recording.spans, index.recording.text
    found: dict[int, set[tuple[str, int, int]]] = {}
    columns = (bindings.column(name) for name in ("name", "tensor", "span"))
    for name, tensor, span in zip(*columns, strict=True):
        if span >= 0:
            found.setdefault(tensor, set()).add((text(name), spans[span].file, spans[span].line))
    return found


def _is_of(
    index: Index,
    file: int,
    returned: ReturnedOfLastRound,
    rounds: list[int],
    bound: dict[int, set[tuple[str, int, int]]],
) -> bool:
    """Whether a loop made some losses: at one of its lines, by a function that it calls, or under a name of its own."""
    lines = range(returned.loop.line, returned.loop.end_line + 1)
    statement = index.statements[index.op_statement[rounds[-1]]]
    if statement.file == file and statement.line in lines:
        return True
    named = [at for op in rounds for one in index.tensors_made(op) for at in bound.get(one, ())]
    if any(name in returned.names and at == file and line in lines for name, at, line in named):
        return True
    return index.recording.text(statement.function).rpartition(".")[2] in returned.called


def _rounds(index: Index, pass_op: int, since: int, past: tuple[int, range] = (NONE, range(0))) -> list[int]:
    """The calls, since another op, at the place of the one that made what a pass starts from.

    Args:
        index: The recording.
        pass_op: The pass.
        since: The other op.
        past: A file and lines of it that do no more than scale what was made, as those of the pass do.
    """
    roots = index.roots.get(pass_op, [])
    made = index.made_by(roots[0]) if len(roots) == 1 else NONE
    while 0 <= made < pass_op:
        at = index.statements[index.op_statement[made]]
        is_past = at.file == past[0] and at.line in past[1]
        if index.op_statement[made] != index.op_statement[pass_op] and not is_past:
            break
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
