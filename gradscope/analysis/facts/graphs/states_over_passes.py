"""Results that are taken in again once a backward pass has run: states, which lead from one pass to the next."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording.flags import EXTERNAL, REQUIRES_GRAD
from gradscope.recording.rows import OpKind


class Takings:
    """What calls take in that was made before a backward pass."""

    def __init__(self, index: Index, names: BestNames) -> None:
        self._index, self._names = index, names
        kinds = index.recording.ops.column("kind")
        self._passes_before = list(accumulate((kind == OpKind.BACKWARD for kind in kinds), initial=0))
        """For each op."""

    def is_over_a_pass(self, op: int, taken: int) -> bool:
        """Whether a pass ran between the making of a tensor and an op that takes it in."""
        made_at = self._index.recording.tensors.column("op")[taken]
        return self._passes_before[made_at] < self._passes_before[op]

    def by_other_statements(self, at_least: int, passes: Passes) -> Iterator[tuple[int, int, int]]:
        """For each statement whose results others make more of over passes, and each of them leads to the one before.

        Returns:
            The last such result, the first op that took one in, and the op that made the last.
        """
        tensors, statements = self._index.recording.tensors, self._index.op_statement
        made_at, flags = tensors.column("op"), tensors.column("flags")
        found: dict[int, dict[int, int]] = {}
        for op, taken in zip(self._index.uses.keys, self._index.uses.values, strict=True):
            if not flags[taken] & REQUIRES_GRAD or flags[taken] & EXTERNAL or made_at[taken] >= op:
                continue
            made_by = statements[made_at[taken]]
            is_by_other = made_by != statements[op] and NOWHERE not in (made_by, statements[op])
            if is_by_other and self._is_state(taken, op):
                found.setdefault(made_by, {}).setdefault(taken, op)
        for several in found.values():
            if len(several) >= at_least:
                *_, before, last = sorted(several)
                if self._index.node_after(before) in passes.behind(self._index.node_after(last)):
                    yield last, min(several.values()), made_at[last]

    def _is_state(self, taken: int, op: int) -> bool:
        has_graph = self._names.is_named(taken) and self._index.node_after(taken) >= 0
        return has_graph and self.is_over_a_pass(op, taken) and self._makes_more(op)

    def _makes_more(self, op: int) -> bool:
        """Whether something that requires grad comes of an op."""
        flags = self._index.recording.tensors.column("flags")
        return any(flags[one] & REQUIRES_GRAD and not flags[one] & EXTERNAL for one in self._index.made.of(op))
