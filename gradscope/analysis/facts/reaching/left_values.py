"""Values that left torch as plain Python or numpy ones, and tensors that were built of such values."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from functools import cached_property

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.reaching.numbers_passed_on import may_hold
from gradscope.analysis.facts.tracking.flow import Flow, Step
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, REQUIRES_GRAD
from gradscope.recording.rows import OpKind

FOLLOWED = 256
"""Tensors made from a leaf that are followed to where their values leave torch."""

_SHOWS = re.compile(r"(print|assert|log(g\w*)?\.\w+)\b")
"""Statements that show values or look at them, and hand them on to nothing."""

_EXPORTS_TRIED = 16
"""Last calls that took values out of torch whose tensors are followed back."""

_BUILT_FROM_VALUES = frozenset(("tensor", "as_tensor", "asarray", "new_tensor", "from_numpy", "full"))
"""Functions that build a tensor from plain values."""

_FROM_VALUES_IN_SOURCE = re.compile(r"^(torch\.)?(from_numpy|as_tensor|asarray|FloatTensor|Tensor|from_dlpack)\(")
"""What a call begins with that goes on from a tensor built of plain values."""


def is_built_from_values(index: Index, tensor: int) -> bool:
    """Whether a call built a tensor from plain values: seen itself, or as the one that its statement has.

    ``torch.from_numpy(a).float()`` is seen by the second call alone, which takes in what no seen call made.
    """
    op, flags = (index.recording.tensors.column(name)[tensor] for name in ("op", "flags"))
    name = index.func(op).rpartition(".")[2]
    if flags & EXTERNAL:
        if op >= index.op_count or not _FROM_VALUES_IN_SOURCE.search(index.span_source(op)):
            return False
        return tensor in index.uses.of(op) and not flags & REQUIRES_GRAD
    return name in _BUILT_FROM_VALUES and not len(index.uses.of(op))


class LeftValues:
    """Where values left torch, and which tensors behind a pass may have been built of them."""

    def __init__(self, index: Index, flow: Flow, events: Events) -> None:
        self._index = index
        self._flow = flow
        self._events = events
        self._origins_of_exports: dict[int, dict[int, Step]] = {}

    def between(self, op: int, before: int, roots: list[int]) -> tuple[list[int], int] | None:
        """That a root was built from plain values which left torch, where nothing behind it requires grad.

        Args:
            op: The pass.
            before: The pass before it, or NONE.
            roots: The tensors that it started from.

        Returns:
            The cuts by which tracked values left between the two passes, the last call for it, and the call that built
            a tensor from values after that; None where no tracked values left.
        """
        built = self.built_among(self._flow.origins_of_all(roots, op))
        if not built:
            return None
        rebuilt = built[-1]
        for export in reversed(self._exports_before(rebuilt, before)[-_EXPORTS_TRIED:]):
            if not len(self._index.uses.of(export)) or not may_hold(self._index, rebuilt, export):
                continue
            if self._index.requires_grad(self._index.uses.of(export)[0], export):
                return [export], rebuilt
            behind = self.behind(export)
            leaves = [one for one in behind if self._index.is_leaf_with_grad(one, export)]
            cuts = {step.op for leaf in leaves for step in self._flow.path(behind, leaf) if step.loses}
            if cuts:
                return sorted(cuts), rebuilt
        return None

    def rebuilt(self, tensor: int, built: tuple[int, ...], before: int) -> tuple[int, int]:
        """The op that took values out of torch from which another one built a tensor behind the root; NONE for both.

        That they are the same values cannot be seen. What speaks for it: they left after the pass before, and a tensor
        behind the root was built from plain values later.
        """
        for rebuilt in reversed(built):
            exports = self._exports_before(rebuilt, before)
            if exports:  # spares the walk over all that was ever made from it
                found = set(exports) & set(self._flow.goes_into(tensor, rebuilt))
                export = max((one for one in found if may_hold(self._index, rebuilt, one)), default=NONE)
                if export >= 0:
                    return export, rebuilt
        return NONE, NONE

    def ends(self, tensor: int, until: int, before: int) -> list[int]:
        """The calls that took values out of torch in which all ends that was made from a leaf since the pass before.

        None where it does not all end so; where a tensor was built from plain values after that, maybe from these, and
        the root was not made from it; where the values were only printed; or where no optimizer was given the leaf:
        nothing says that it is to be trained.
        """
        if tensor not in self._events.in_optimizers:
            return []
        kinds, ends = self._index.recording.ops.column("kind"), set[int]()
        stack, seen = [tensor], {tensor}
        while stack and len(seen) < FOLLOWED:
            one = stack.pop()
            users = [op for op in self._flow.uses_of(one, until) if op > before]
            if not users:
                return []
            for op in users:
                new = [made for made in self._index.tensors_made(op) if made not in seen]
                if kinds[op] == OpKind.EXPORT:
                    ends.add(op)
                else:
                    seen.update(new)
                    stack += new
        if stack or not ends or bisect_left(self._built, min(ends)) < bisect_left(self._built, until):
            return []
        shown = (_SHOWS.match(self._index.op_place(op).source.strip()) for op in ends)
        return [] if all(shown) else sorted(ends)

    def behind(self, export: int) -> dict[int, Step]:
        known = self._origins_of_exports.get(export)
        if known is None:
            known = self._flow.origins(self._index.uses.of(export)[0], export)
            self._origins_of_exports[export] = known
        return known

    def built_among(self, steps: dict[int, Step]) -> tuple[int, ...]:
        """The ops that built some of the tensors of a walk from plain values."""
        made_at = self._index.recording.tensors.column("op")
        return tuple(sorted({made_at[taken] for taken in steps if self._is_built_from_values(taken)}))

    def _is_built_from_values(self, tensor: int) -> bool:
        """As the function; of what a library builds only where it took values out of torch itself, in the same call.

        Its constants say nothing of values that left torch elsewhere.
        """
        if not is_built_from_values(self._index, tensor):
            return False
        op = self._index.recording.tensors.column("op")[tensor]
        if self._index.recording.ops.column("inner")[op] < 0:
            return True
        return self._index.op_statement[op] in self._left_in_libraries

    @cached_property
    def _left_in_libraries(self) -> set[int]:
        """Statements in whose calls a library took values out of torch."""
        inner = self._index.recording.ops.column("inner")
        return {self._index.op_statement[op] for op in self._exports if inner[op] >= 0}

    @cached_property
    def _built(self) -> list[int]:
        """The ops that built tensors from plain values."""
        made_at = self._index.recording.tensors.column("op")
        return sorted({op for tensor, op in enumerate(made_at) if self._is_built_from_values(tensor)})

    def _exports_before(self, rebuilt: int, before: int) -> list[int]:
        """The calls after one op that took out of torch what another may have built a tensor of.

        Where its own statement takes values out (``torch.tensor(h.tolist())``), it is built of those.
        """
        exports = self._exports[bisect_right(self._exports, before) : bisect_left(self._exports, rebuilt)]
        statements = self._index.op_statement
        since = max((op for op in self._built if op < rebuilt and statements[op] == statements[rebuilt]), default=NONE)
        return [op for op in exports if op > since and statements[op] == statements[rebuilt]] or exports

    @cached_property
    def _exports(self) -> list[int]:
        return self._index.of_kind(OpKind.EXPORT)
