"""States that a program carries on with their graphs, value after value of a stream, and that no pass ever walks.

What is carried is what a statement made in an earlier run and takes in again. That nobody is to be trained through it
shows in numbers that are read out of the graph between the runs: an unrolled sequence is read when it is over.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording.flags import EXTERNAL, REQUIRES_GRAD

RUNS = 32
"""Runs over which a graph reaches back, from which on it is one that grows with the stream."""
_COPIES = 3
"""Calls that a number may have gone through on its way out: ``detach()``, ``cpu()``, ``numpy()``."""
_READS = frozenset({"item", "tolist", "numpy", "__float__", "__int__", "__bool__"})


class StreamedState(NamedTuple):
    """A state that one statement carries on."""

    tensor: int
    """The last of its values that has a graph."""
    op: int
    """The call that made it."""
    nodes: tuple[int, ...]
    """The graph behind it, without leaves."""
    runs: int
    """Runs of the statement that it reaches back over, with the same weights."""


def streamed_states(index: Index, passes: Passes) -> list[StreamedState]:
    """One for each statement, in their order."""
    made_at, node = (index.recording.tensors.column(name) for name in ("op", "node"))
    carried = _carried(index)
    reads = _reads(index) if any(len(several) >= RUNS for several in carried.values()) else []
    found = []
    for statement, several in carried.items():
        walked = [place for place, one in enumerate(several) if passes.first_walked_at[node[one]] >= 0]
        several = several[walked[-1] + 1 :] if walked else several  # a model may be trained before it meets a stream
        if len(several) < RUNS:
            continue
        state = _state(index, passes, statement, several[-1])
        if state.runs >= RUNS and _are_between(reads, sorted({made_at[one] for one in several})[-state.runs :]):
            found.append(state)
    return found


def _carried(index: Index) -> dict[int, list[int]]:
    """For each statement: its results that it takes in later itself, or by way of one other statement before it."""
    columns = (index.recording.tensors.column(name) for name in ("op", "flags", "node"))
    made_at, flags, node = columns
    statements, first = index.op_statement, dict[int, int]()
    for op, statement in enumerate(statements):
        first.setdefault(statement, op)
    found: dict[int, list[int]] = {}
    for op, taken in zip(index.uses.keys, index.uses.values, strict=True):
        statement = statements[op]
        is_result = flags[taken] & REQUIRES_GRAD and not flags[taken] & EXTERNAL and made_at[taken] < op
        if not is_result or statement == NOWHERE or node[taken] < 0 or statements[made_at[taken]] == NOWHERE:
            continue
        by = statements[made_at[taken]]
        is_by_way = first[statement] < first[by] and any(
            made_at[one] < op and statements[made_at[one]] == statement
            for one in index.uses.of(made_at[taken])
            if not flags[one] & EXTERNAL
        )
        if by == statement or is_by_way:
            found.setdefault(by, []).append(taken)
    return found


def _state(index: Index, passes: Passes, statement: int, tensor: int) -> StreamedState:
    """What is behind a value: runs of its statement are told apart by the call that made the value."""
    made_by, variable = index.recording.nodes.column("op"), index.recording.nodes.column("variable")
    spans, op = index.recording.ops.column("span"), index.recording.tensors.column("op")[tensor]
    behind = passes.behind(index.recording.tensors.column("node")[tensor])
    nodes = tuple(one for one in behind if variable[one] < 0)
    ops = {made_by[one] for one in nodes if made_by[one] < index.op_count}
    runs = sum(
        index.op_statement[one] == statement and spans[one] == spans[op] and index.func(one) == index.func(op)
        for one in ops
    )
    is_depth = len(behind) - len(nodes) >= runs  # a deep model has weights of its own for each run
    return StreamedState(tensor, op, nodes, 0 if is_depth else runs)


def _reads(index: Index) -> list[int]:
    """Ops that read numbers out of results that have a graph."""
    return [
        op
        for op in index.calls_of(lambda name: name.rpartition(".")[2] in _READS)
        if any(_is_of_graph(index, one) for one in index.uses.of(op))
    ]


def _is_of_graph(index: Index, tensor: int) -> bool:
    """Whether a tensor has a graph, or is the copy of one that has."""
    made_at, flags = (index.recording.tensors.column(name) for name in ("op", "flags"))
    for _ in range(_COPIES):
        if flags[tensor] & REQUIRES_GRAD:
            return True
        if flags[tensor] & EXTERNAL or made_at[tensor] >= index.op_count or not index.uses.of(made_at[tensor]):
            return False
        tensor = index.uses.of(made_at[tensor])[0]
    return bool(flags[tensor] & REQUIRES_GRAD)


def _are_between(reads: list[int], runs: list[int]) -> bool:
    """Whether numbers were read between most of the runs."""
    at, times = 0, 0
    for first, then in pairwise(runs):
        while at < len(reads) and reads[at] < first:
            at += 1
        times += at < len(reads) and reads[at] < then
    return 2 * times >= len(runs)
