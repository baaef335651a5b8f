"""Results that stay with their graphs after a backward pass has used these up: nothing can come of them any more.

What a pass used up cannot be walked again, so that the graph behind such a result is of no use; it is kept because the
result is. One that is there until the next pass is a name in a loop; several of one call, of several passes, are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL

AT_LEAST = 3
"""Passes whose results are there at once, from which on they are kept."""
MANY = 8
"""Passes whose results are there at once, from which on it does not matter that others were dropped: a ring of them."""
_BEHIND = 3
"""Steps into the graph behind a result: a slice of an output that a pass came through is kept as the output is."""
_NEVER = 1 << 60


class KeptAfterPasses(NamedTuple):
    """The results of one call, as many as were there at once."""

    tensors: tuple[int, ...]
    passes: int
    """Passes that had used their graphs up."""
    last: int
    """The last of these."""
    alike: tuple[int, ...]
    """All results of the call."""


class _Life(NamedTuple):
    tensor: int
    used_up: int
    died: int


def kept_after_passes(index: Index, passes: Passes) -> list[KeptAfterPasses]:
    """One for each call whose results pile up, in the order of their first result."""
    tensors, funcs = index.recording.tensors, index.recording.ops.column("func")
    spans, places = index.recording.ops.column("span"), index.places_in_call
    ends = sorted(set(passes.used_up_at) - {NONE})
    made: dict[tuple[int, int, int], list[_Life]] = {}
    contributed: dict[tuple[int, int, int], set[int]] = {}
    columns = (tensors.column(name) for name in ("op", "node", "flags", "died"))
    coming = 0
    for tensor, (op, node, flags, died) in enumerate(zip(*columns, strict=True)):
        while coming < len(ends) and ends[coming] <= op:
            coming += 1
        if coming == len(ends):
            break
        if node < 0 or flags & EXTERNAL or index.op_statement[op] == NOWHERE:
            continue
        key = spans[op], places[tensor], funcs[op]
        if 0 <= died <= ends[coming]:  # most are: there is nothing to be found out about them
            contributed.setdefault(key, set()).add(ends[coming])
        else:
            life = _Life(tensor, _used_up(index, passes, node, op), _NEVER if died == NONE else died)
            made.setdefault(key, []).append(life)
    found = (_most_at_once(index, lives, contributed.get(key, set())) for key, lives in made.items())
    return [kept for kept in found if kept is not None]


def _used_up(index: Index, passes: Passes, root: int, made_at: int) -> int:
    """The pass after a result was made that used up its graph, or what it was made from; NONE for none."""
    used_up, variable = passes.used_up_at, index.recording.nodes.column("variable")
    nodes = [root]
    for _ in range(_BEHIND):
        after = [used_up[node] for node in nodes if used_up[node] >= 0]
        if after:
            return min(after) if min(after) > made_at else NONE
        nodes = [behind for node in nodes for behind in index.edges.of(node) if behind >= 0 and variable[behind] < 0]
    return NONE


def _most_at_once(index: Index, lives: list[_Life], others: set[int]) -> KeptAfterPasses | None:
    """The results that were there when the most were whose graphs had been used up.

    Args:
        lives: Results of a call that were there when the next pass was over.
        others: Passes after which no other results of the call were there.
    """
    kept = [life for life in lives if 0 <= life.used_up < life.died]
    if len({life.used_up for life in kept}) < AT_LEAST:
        return None
    moments = sorted({life.used_up for life in kept})
    counts = _counts(kept, moments)
    # The last of the moments at which the most were there: what a loop keeps the last few of has them at its end too.
    most = max(range(len(moments)), key=lambda at: (counts[at], at))
    there = [life for life in kept if life.used_up <= moments[most] < life.died]
    several = {life.used_up for life in there}
    until_then = {op for op in (*others, *(life.used_up for life in lives)) if 0 <= op <= moments[most]}
    is_growing = 2 * len(several) > len(until_then)
    if len(several) < AT_LEAST or not (is_growing or len(several) >= MANY or _is_begun_anew(counts)):
        return None
    tensors = tuple(life.tensor for life in there)
    by_pass = dict[int, int]()
    for life in there:
        by_pass[life.used_up] = max(by_pass.get(life.used_up, 0), index.kept_with([life.tensor]))
    return KeptAfterPasses(tensors, sum(by_pass.values()), max(several), tuple(life.tensor for life in lives))


def _is_begun_anew(counts: list[int]) -> bool:
    """Whether they became more and more, and most of them went at once: a list of each epoch."""
    return any(now > AT_LEAST and 2 * after <= now for now, after in pairwise(counts))


def _counts(kept: list[_Life], moments: list[int]) -> list[int]:
    """How many were there, used up, at each moment."""
    changes = sorted(_changes(kept))
    counts, now, at = [], 0, 0
    for moment in moments:
        while at < len(changes) and changes[at][0] <= moment:
            now += changes[at][1]
            at += 1
        counts.append(now)
    return counts


def _changes(kept: list[_Life]) -> Iterator[tuple[int, int]]:
    for life in kept:
        yield life.used_up, 1
        yield life.died, -1
