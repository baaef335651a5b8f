"""The lines whose operations backward passes went through, or that cut what these were given."""

from __future__ import annotations

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.index import NOWHERE, Index

Line = tuple[str, int]
"""File and first line of a statement."""


def lines_in_passes(index: Index, passes: Passes, cuts: Cuts, wanted: frozenset[int]) -> frozenset[Line]:
    """Those of the passes that are asked for, by op.

    A cut is one of them where what it gave went into an operation that such a pass came through.
    """
    ops = index.recording.nodes.column("op")
    walked = zip(ops, passes.first_walked_at, strict=True)
    through = {op for op, first in walked if first in wanted and 0 <= op < index.op_count}
    statements = {index.op_statement[op] for op in through}
    for op in through:
        for tensor in index.uses.of(op):
            made = index.made_by(tensor)
            if 0 <= made < index.op_count and cuts.is_cut[made]:
                statements.add(index.op_statement[made])
    places = (index.statements[statement] for statement in statements - {NOWHERE})
    return frozenset((index.recording.files[one.file].name, one.line) for one in places)
