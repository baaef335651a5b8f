"""A function that keeps what it computed in a region without gradients, and gives it again outside of that."""

from __future__ import annotations

from gradscope.analysis.facts.derivatives.function_sources import Lines
from gradscope.analysis.facts.memory.caching_functions import caches_around
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.facts.tracking.flow import Step
from gradscope.analysis.index import Index
from gradscope.frames.blocks.filled_once import filled_once


def kept_by_cache(index: Index, cuts: Cuts, way: list[Step]) -> Lines | None:
    """Where a cache keeps what a way from a leaf to a root takes out of a region; None where none is known to.

    The last call of the way in the region is one of a function that keeps its results, or of one whose results such a
    function keeps; it did not open the region itself. Or it fills a place that its function reads at each call, and did
    so for the last time.
    """
    cut = next((number for number, step in enumerate(way) if step.loses), len(way))
    region = cuts.regions.describe(way[cut].op) if cut < len(way) else None
    if region is None:
        return None
    inside = [step.op for step in way[cut:] if step.op >= 0 and cuts.regions.of(step.op) == region.op]
    last = index.statements[index.op_statement[inside[-1]]] if inside else None
    if last is None or last.file < 0 or inside[-1] == way[-1].op:
        return None
    opened = index.statements[index.op_statement[region.op]]
    outside = opened.line if opened.file == last.file else 0
    text = index.recording.files[last.file].text
    found = caches_around(text, last.line, outside)
    if len(found) == 1:
        first, end, function = found[0]
        return Lines(last.file, index.line(last.file, first), end, function)
    filled = filled_once(text, last.line) if not found else None
    if filled is None or filled.function == index.op_place(region.op).function.rpartition(".")[2]:
        return None
    if cuts.regions.of(_last_filling(index, last.file, filled.block, inside[-1])) != region.op:
        return None
    return Lines(last.file, index.line(last.file, filled.line), filled.end_line, filled.function)


def _last_filling(index: Index, file: int, block: tuple[int, int], op: int) -> int:
    """The last op that a block of a file made itself; that of an op's statement, which it calls, where it made none.

    What it calls may be for others as well: ``self.split(k)`` is for each batch, and once for what is kept.
    """
    made = [
        last
        for number, last in index.last_op.items()
        if index.statements[number].file == file and block[0] <= index.statements[number].line <= block[1]
    ]
    return max(made, default=index.last_op[index.op_statement[op]])
