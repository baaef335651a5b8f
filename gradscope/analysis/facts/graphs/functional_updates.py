"""Leaves that are trained without being written: a new version is computed from each and its gradient (MAML)."""

from __future__ import annotations

from functools import cached_property

from gradscope.analysis.index import Index
from gradscope.recording.rows import OpKind


class FunctionalUpdates:
    """The leaves of one recording whose gradients ``autograd.grad`` was asked for."""

    def __init__(self, index: Index) -> None:
        self._index = index

    @cached_property
    def _asked_at(self) -> dict[int, int]:
        """For each tensor the first call of ``autograd.grad`` that asked for its gradient."""
        index, found = self._index, dict[int, int]()
        for op in index.of_kind(OpKind.GRAD):
            for tensor in index.uses.of(op):
                if tensor not in index.roots.get(op, ()):
                    found.setdefault(tensor, op)
        return found

    def has(self, tensor: int) -> bool:
        """Whether a tensor of a leaf's shape was computed from it after its gradient had been asked for."""
        asked = self._asked_at.get(tensor)
        if asked is None:
            return False
        index, layouts = self._index, self._index.recording.tensors.column("layout")
        kinds = index.recording.ops.column("kind")
        shape = index.recording.layouts[layouts[tensor]].shape
        return any(
            index.recording.layouts[layouts[made]].shape == shape
            for op in index.users.of(tensor)
            if op > asked and kinds[op] == OpKind.CALL
            for made in index.tensors_made(op)
        )
