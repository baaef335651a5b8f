"""What leaves are called in a whole run, where no line is in question: ``model.fc.weight``, no layer's own name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.names.held_names import HeldNames
from gradscope.analysis.index import Index

_OWN = ("self.", "cls.")


def leaf_names(index: Index, names: BestNames, rows: Collection[int]) -> dict[int, str]:
    """A name for each of some leaves: one that no other bears comes first, then the longest path, which is the
    outermost object's, then one that does not begin with ``self``.
    """
    held, text = HeldNames(index), index.recording.text
    borne = {row: {text(one.name) for one in held.of_tensor.get(row, ())} for row in rows}
    bearers = Counter(name for found in borne.values() for name in found)

    def rank(name: str) -> tuple[bool, int, bool, str]:
        return (bearers[name] == 1, name.count(".") + name.count("["), not name.startswith(_OWN), name)

    return {row: max(found, key=rank) if found else names.of(row) for row, found in borne.items()}
