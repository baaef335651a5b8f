"""A graph that the backward of a reentrant checkpoint freed, since its function uses a tensor that it was not given."""

from __future__ import annotations

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.passes.captured_graphs import FreedInside, freed_inside
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.worded_lines import numbers
from gradscope.analysis.wording import listed


def captured_by_checkpoint(sources: Sources, op: int) -> Finding | None:
    """Why a pass (an op) came a second time through a graph that no pass of the program's had used up."""
    index, calls = sources.index, sources.cuts.reentrant.tracked_calls
    found = freed_inside(index, sources.passes, calls, op) if calls else None
    if found is None:
        return None
    tensors = list(dict.fromkeys(one.tensor for one in found.captured))
    made = {tensor: sources.stored(tensor, op) or sources.made_at(tensor) for tensor in tensors}
    run = _calls(sources, found)
    named = [
        f"{sources.names.of(tensor)} (made at line {causes[0].line})" if causes else sources.names.of(tensor)
        for tensor, causes in made.items()
    ]
    kept, where = listed(named), numbers(list(dict.fromkeys(cause.line for cause in run)))
    is_earlier = found.earlier >= 0
    origins = [cause for causes in made.values() for cause in causes]
    return sources.finding(
        f"Line {index.op_line(op)}: backward failed, since what is checkpointed at line {where} with "
        f"use_reentrant=True uses {kept} without having that as an argument",
        why=f"backward runs it again with a pass of its own that goes on through that graph{_met(index, found)}",
        op=op,
        tensors=tensors,
        causes=[*origins, *run] if is_earlier else [*run, *origins],
        evidence=[Evidence("events", one.call.row) for one in found.captured],
        advice="Compute it anew for each backward."
        if is_earlier
        else "Hand it to checkpoint as an argument of its own, or use use_reentrant=False.",
    )


def _met(index: Index, found: FreedInside) -> str:
    if found.earlier >= 0:
        return f", which was freed with the pass of line {index.op_line(found.earlier)}"
    calls = len({one.call.op for one in found.captured})
    who = f"{calls:,} such runs come" if calls > 1 else "the pass of the loss comes"
    return f" and frees it, and {who} there"


def _calls(sources: Sources, found: FreedInside) -> list[Cause]:
    """The lines of the calls, then those that tell them to be reentrant where that stands elsewhere."""
    reentrant = sources.cuts.reentrant
    calls = [one.call for one in found.captured]
    told = dict.fromkeys(place for call in calls if (place := reentrant.told_at(call)) is not None)
    return [
        *dict.fromkeys(cause for call in calls for cause in sources.cause_of_event("used", call)),
        *(sources.cause_of_line("used", file, line, line, "") for file, line in told),
    ]
