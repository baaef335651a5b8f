"""Results of a recursion that a list keeps with the graphs that they carry: recurrent states in a replay buffer."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory.keepers import Keeper, keeper
from gradscope.analysis.report_model import Cause
from gradscope.frames.names.put_statements import Handed, containers_of, handed_to
from gradscope.recording import NONE

AT_LEAST = 8
"""Results that the list keeps, from which on it is that which grows."""
_HANDED = 3
"""Calls that may have handed something on; where there are more, none of them is the line to change."""


class StatesInList(NamedTuple):
    """What keeps results of one statement."""

    kept_by: Keeper
    results: int
    causes: list[Cause]
    """Where they are put there, and who hands them to that."""
    is_begun_anew: bool
    """Whether the recursion begins anew now and then, so that only the list holds what was before."""


def states_in_list(sources: Sources, statement: int) -> StatesInList | None:
    """The one place that puts what a statement made where it stays to the end, and where no pass has walked it.

    What a pass walks is trained through, and has its graph on purpose.
    """
    index = sources.index
    made_at, nodes, died = (index.recording.tensors.column(name) for name in ("op", "node", "died"))
    text, walked = index.recording.text, sources.passes.first_walked_at
    kept = [
        tensor
        for tensor, rows in sources.names_held.items()
        if made_at[tensor] < index.op_count
        and index.op_statement[made_at[tensor]] == statement
        and died[tensor] == NONE
        and nodes[tensor] >= 0
        and walked[nodes[tensor]] < 0
        and any(span == NONE and "[" in text(name) for name, _, span in rows)
    ]
    found = keeper(index, kept, sources.names_held) if len(kept) >= AT_LEAST else None
    if found is None or found.is_cache or found.in_generators or found.default or found.emptied:
        return None
    put = found.put
    names = {text(name) for tensor in kept for name, _, _ in sources.names_held[tensor]}
    names |= {one for name in names for one in containers_of(name)}
    handed = list(found.handed) or _handed(sources, found, names)
    causes = [sources.cause_of_line("made", found.file, put.line, put.end_line, put.function)]
    causes += [sources.cause_of_line("used", file, call.line, call.end_line, "") for file, call in handed]
    kept.sort()
    goes_on = index.node_after(kept[0]) in sources.passes.behind(index.node_after(kept[-1]))
    return StatesInList(found, len(kept), causes, not goes_on)


def _handed(sources: Sources, found: Keeper, names: set[str]) -> list[tuple[int, Handed]]:
    files = enumerate(sources.index.recording.files)
    calls = [
        (number, one) for number, file in files if file.is_user for one in handed_to(file.text, found.put, names, ())
    ]
    return calls if len(calls) <= _HANDED else []
