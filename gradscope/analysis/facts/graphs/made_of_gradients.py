"""What a program makes of gradients that have a graph, since ``backward(create_graph=True)`` made them.

That graph is meant where a later pass walks it, for a second derivative; where none ever does, it is only kept.
"""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import REQUIRES_GRAD
from gradscope.recording.rows import OpKind

AT_LEAST = 8
"""Passes whose gradients' graphs are there at once, from which on they are kept."""


class MadeOfGradients(NamedTuple):
    """Results that lead back to the graphs of gradients, none of which a pass walks."""

    backward: int
    """The last pass that gave gradients a graph."""
    passes: int
    statements: frozenset[int]
    """The statements that make the results."""
    kept: tuple[int, ...]
    """Results of one call, each of another pass, that were all there at the last pass; empty where they are let go."""


def made_of_gradients(index: Index, passes: Passes) -> MadeOfGradients | None:
    """All of a run; None where no gradient has a graph, or a pass walks one."""
    backwards, kinds = index.recording.backwards, index.recording.ops.column("kind")
    rows = zip(backwards.column("op"), backwards.column("create_graph"), strict=True)
    creating = sorted({op for op, creates in rows if creates == 1 and kinds[op] == OpKind.BACKWARD})
    if not creating:
        return None
    of_pass = {tensor: op for op in creating for tensor in index.made.of(op)}
    flags, node = (index.recording.tensors.column(name) for name in ("flags", "node"))
    found: dict[int, int] = {}
    for op, taken in zip(index.uses.keys, index.uses.values, strict=True):
        since = found.get(taken, of_pass.get(taken, NONE))
        for made in index.made.of(op) if since >= 0 and kinds[op] != OpKind.BACKWARD else ():
            if flags[made] & REQUIRES_GRAD and node[made] >= 0:
                found[made] = max(since, found.get(made, NONE))
    if not found or any(passes.first_walked_at[node[tensor]] >= 0 for tensor in found):
        return None
    made_at = index.recording.tensors.column("op")
    statements = frozenset(index.op_statement[made_at[tensor]] for tensor in found)
    return MadeOfGradients(creating[-1], index.times(creating), statements, _kept(index, found, creating[-1]))


def _kept(index: Index, found: dict[int, int], last: int) -> tuple[int, ...]:
    """Those of the call whose results of most passes were there at the last one; of several calls, of the last."""
    made_at, died = (index.recording.tensors.column(name) for name in ("op", "died"))
    spans, funcs = index.recording.ops.column("span"), index.recording.ops.column("func")
    there: dict[tuple[int, int], dict[int, int]] = {}
    for tensor, since in found.items():
        if made_at[tensor] < last and not 0 <= died[tensor] <= last:
            there.setdefault((spans[made_at[tensor]], funcs[made_at[tensor]]), {})[since] = tensor
    several = max(there.values(), key=lambda one: (len(one), max(one.values())), default={})
    return tuple(several.values()) if len(several) >= AT_LEAST else ()
