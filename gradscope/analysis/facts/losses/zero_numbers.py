"""Products with a number that was zero in every backward pass that was looked at."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.zero_derivatives import FACTORS, LOOKS
from gradscope.analysis.facts.value_looks import PassLook, is_zero
from gradscope.analysis.facts.writes import all_steps
from gradscope.analysis.index import Index


class ZeroNumber(NamedTuple):
    """One line that multiplies with it."""

    op: int
    """The last time."""
    passes: list[PassLook]


def zero_numbers(index: Index, looks: list[PassLook]) -> Iterator[ZeroNumber]:
    """Those of whose line every product was one with zero, over enough passes and with a step among them."""
    made_by, names = (index.recording.nodes.column(name) for name in ("op", "name"))
    steps = all_steps(index)
    zero: dict[int, dict[int, PassLook]] = {}
    for look in looks:
        for one in look.derivatives:
            op = made_by[one.node]
            if is_zero(one.values) and index.recording.text(names[one.node]) in FACTORS and 0 <= op < index.op_count:
                zero.setdefault(index.op_statement[op], {})[op] = look
    for statement, ops in zero.items():
        passes = list(ops.values())
        if len(passes) < LOOKS or not any(passes[0].op < step < passes[-1].op for step in steps):
            continue
        if set(_looked_at(index, looks, statement, max(ops))) <= ops.keys():
            yield ZeroNumber(max(ops), passes)


def _looked_at(index: Index, looks: list[PassLook], statement: int, like: int) -> Iterator[int]:
    """The calls of a statement like one of them, since the pass before one that was looked at, that gave a node."""
    nodes = index.recording.tensors.column("node")
    ops = [op for op in index.calls_of(index.func(like).__eq__) if index.op_statement[op] == statement]
    passes = sorted(index.roots)
    for look in looks:
        position = bisect_left(passes, look.op)
        before = passes[position - 1] if position else 0
        for op in ops[bisect_left(ops, before) : bisect_left(ops, look.op)]:
            if any(nodes[one] >= 0 for one in index.tensors_made(op)):
                yield op
