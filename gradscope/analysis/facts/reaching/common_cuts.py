"""Of several cuts between leaves and what was computed from them, the one that all the ways came through."""

from __future__ import annotations

from collections.abc import Collection

from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.index import Index


def cuts_of_all(index: Index, flow: Flow, cuts: Collection[int], leaves: Collection[int]) -> list[int]:
    """The first cut (an op) to which all leaves lead, alone; all cuts where there is no such one.

    A leaf's way may have been found through a condition that is cut off too: ``critic(fake.detach(), code.detach())``.
    """
    for cut in sorted(cuts) if len(cuts) > 1 else ():
        for taken in index.uses.of(cut):
            origins = flow.origins(taken, cut)
            if all(leaf in origins or leaf == taken for leaf in leaves):
                return [cut]
    return list(cuts)
