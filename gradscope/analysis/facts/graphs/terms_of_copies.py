"""Terms that were computed from earlier copies of what is trained, and from nothing that is trained itself.

The copy is cut off as it has to be: what is wrong is where it is used, in place of what it is a copy of.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.graphs.lost_terms import CutPenalty
from gradscope.analysis.facts.reaching.common_cuts import cuts_of_all
from gradscope.analysis.facts.tracking.flow import Flow, Step
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.frames.names.overwritten_unread import OverwrittenName, overwritten_parameters
from gradscope.recording import NONE


class TermOfCopies(NamedTuple):
    """What a term was computed from."""

    used: int
    """The op that first used a copy for it."""
    file: int
    overwritten: OverwrittenName | None
    """Where the text gives the name of a parameter to a copy."""


class TermsOfCopies:
    """Looks at what is known of terms that were cut off leaves: which of their values were old when they went in."""

    def __init__(self, index: Index, flow: Flow) -> None:
        self._index = index
        self._flow = flow

    def of(self, tensor: int, at: int, found: CutPenalty) -> TermOfCopies | None:
        """That all leaves of a term went into it as copies which are older than their last write.

        Args:
            tensor: The term.
            at: The op that added it.
            found: What is known of it.
        """
        index, behind = self._index, self._flow.origins(tensor, at)
        if any(self._taken(leaf, at, behind).now >= 0 for leaf in found.leaves):
            return None
        used = [
            next((step.op for step in way if step.op > self._last_write(leaf, at) >= 0), NONE)
            for leaf, way in zip(found.leaves, found.ways, strict=True)
        ]
        if not used or NONE in used:
            return None
        file = index.statements[index.op_statement[used[0]]].file
        return TermOfCopies(used[0], file, _overwritten(index, behind, file))

    def without_old(self, tensor: int, at: int, found: CutPenalty) -> CutPenalty:
        """The same, where copies and present values both went in, with the cuts of the present ones alone."""
        index, behind = self._index, self._flow.origins(tensor, at)
        taken = [self._taken(leaf, at, behind) for leaf in found.leaves]
        if any(one.now < 0 or one.old < 0 for one in taken):
            return found
        made_at = index.recording.tensors.column("op")
        cuts = {index.op_statement[made_at[one.now]]: made_at[one.now] for one in taken}
        ways = [[Step(made_at[one.now], one.now, loses=True), *self._flow.path(behind, one.now)] for one in taken]
        return CutPenalty(cuts_of_all(index, self._flow, cuts.values(), found.leaves), found.leaves, ways)

    def _taken(self, leaf: int, at: int, behind: Collection[int]) -> _TakenOfLeaf:
        """What was taken of a leaf for a term, and of what shares its memory, before its last write and since."""
        index, written = self._index, self._last_write(leaf, at)
        now, old = NONE, NONE
        todo, seen = [(leaf, NONE)], {leaf}
        while todo:
            tensor, first = todo.pop()
            for op in index.users.of(tensor):
                for made in index.tensors_made(op):
                    if made not in behind or made in seen:
                        continue
                    seen.add(made)
                    taken = first if first >= 0 else made
                    if index.storage_at(made, op) == index.storage_at(leaf, op) >= 0:
                        todo.append((made, taken))
                    elif op > written:
                        now = taken
                    else:
                        old = taken
        return _TakenOfLeaf(now, old)

    def _last_write(self, leaf: int, before: int) -> int:
        ops = self._writes.get(leaf, [])
        position = bisect_left(ops, before)
        return ops[position - 1] if position else NONE

    @cached_property
    def _writes(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for op, tensor, _, _ in all_writes(self._index):
            found.setdefault(tensor, []).append(op)
        return found


class _TakenOfLeaf(NamedTuple):
    """The last tensor that was made of a leaf itself, on each kind of way to a term; NONE for no way."""

    now: int
    """Its values went in as the leaf had them then."""
    old: int
    """They went in as a copy from before."""


def _overwritten(index: Index, behind: Collection[int], file: int) -> OverwrittenName | None:
    """The statement among those that computed a term which overwrites a parameter's name, where there is one."""
    if file < 0:
        return None
    made_at = index.recording.tensors.column("op")
    ops = {made_at[one] for one in behind}
    places = (index.statements[index.op_statement[op]] for op in ops if 0 <= op < index.op_count)
    lines = {place.line for place in places if place.file == file}
    named = overwritten_parameters(index.recording.files[file].text)
    fitting = {one.line: one for one in named if not lines.isdisjoint(range(one.line, one.end_line + 1))}
    return next(iter(fitting.values())) if len(fitting) == 1 else None
