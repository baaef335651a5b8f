"""How many outputs of one graph node lead to what a backward pass started from."""

from __future__ import annotations

from functools import cached_property

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording.rows import Field


class OutputsUsed:
    """Counts them. Which output a tensor is was not recorded: only where all are used is it known of each."""

    def __init__(self, index: Index, passes: Passes) -> None:
        self._index = index
        self._passes = passes

    def of(self, node: int) -> int:
        """The outputs of a node that calls took in whose own nodes lead to it, and which a backward pass walked."""
        outputs = self._outputs.get(node, set())
        return sum(self._is_used(one, node, outputs) for one in outputs)

    @cached_property
    def _outputs(self) -> dict[int, set[int]]:
        """For each node the tensors of which it is the grad_fn; what forward made itself got that when it was done."""
        recording, found = self._index.recording, dict[int, set[int]]()
        for tensor, node in enumerate(recording.tensors.column("node")):
            if node >= 0:
                found.setdefault(node, set()).add(tensor)
        columns = (recording.changes.column(name) for name in ("tensor", "field", "after"))
        for tensor, field, after in zip(*columns, strict=True):
            if field == Field.GRAD_FN and after >= 0:
                found.setdefault(after, set()).add(tensor)
        return found

    def _is_used(self, output: int, node: int, outputs: set[int]) -> bool:
        index, walked = self._index, self._passes.first_walked_at
        nodes_of = index.recording.tensors.column("node")
        for op in index.users.of(output):
            taken = len({one for one in index.uses.of(op) if one in outputs})
            for made in index.tensors_made(op):
                above = nodes_of[made]
                leads = list(index.edges.of(above)).count(node) if above >= 0 else 0
                if above >= 0 and above != node and walked[above] >= 0 and leads >= taken:
                    return True
        return False
