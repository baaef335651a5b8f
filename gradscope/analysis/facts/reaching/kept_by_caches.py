"""A function that keeps what it computed in a region without gradients, and gives it again outside of that."""

from __future__ import annotations

from gradscope.analysis.facts.derivatives.function_sources import Lines
from gradscope.analysis.facts.memory.caching_functions import caches_around
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.facts.tracking.flow import Step
from gradscope.analysis.index import Index


def kept_by_cache(index: Index, cuts: Cuts, way: list[Step]) -> Lines | None:
    """Where a cache keeps what a way from a leaf to a root takes out of a region; None where none is known to.

    The last call of the way in the region is one of a function that keeps its results, or of one whose results such a
    function keeps; it did not open the region itself.
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
    found = caches_around(index.recording.files[last.file].text, last.line, outside)
    if len(found) != 1:
        return None
    first, end, function = found[0]
    return Lines(last.file, index.line(last.file, first), end, function)
