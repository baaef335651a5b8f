"""What transforms of ``torch.func`` gave (``vmap(f)(x)``, ``hessian(f)(x)``), and what their functions took.

Inside a transform tensors are wrapped: no memory of theirs is known, and the call that unwraps the result is not seen.
The ops right before a result that took or gave such tensors are those of the transform; what they took that was there
before is what the result was computed from.
"""

from __future__ import annotations

from functools import cached_property

from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import MADE, NO_STORAGE
from gradscope.recording.rows import BindingKind, OpKind

_IMPLEMENTATIONS = ("torch.vmap_impl", "torch.grad_impl", "torch.grad_and_value_impl")
"""What transforms call around their function; it may take nothing that is seen."""
_LONGEST = 4096


class TransformResults:
    """Looks at the results of one recording."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def taken(self, tensor: int) -> list[int]:
        """What the transform took that gave a tensor; nothing where none did, or autograd tracks any of it."""
        index = self._index
        if not self._has_wrapped:
            return []
        flags, made_at = (index.recording.tensors.column(name) for name in ("flags", "op"))
        if flags[tensor] & NO_STORAGE or made_at[tensor] >= index.op_count:
            return []
        end = start = made_at[tensor]
        while start > max(0, end - _LONGEST) and self._is_inside(start - 1):
            start -= 1
        ops = range(start, end)
        found = dict.fromkeys(
            one
            for op in ops
            for one in index.uses.of(op)
            if not flags[one] & NO_STORAGE and (made_at[one] < start or index.is_leaf(one))
        )
        return [] if any(index.requires_grad(one, end) for one in found) else list(found)

    def read_at(self, tensor: int, until: int) -> int:
        """The span of the last line before an op that reads a tensor for a transform, or NONE: what the transform's
        function is given is another tensor, which wraps this one.
        """
        if not self._has_wrapped:
            return NONE
        index, bindings = self._index, self._index.recording.bindings
        columns = (bindings.column(name) for name in ("tensor", "op", "kind", "span"))
        for held, op, kind, span in reversed(list(zip(*columns, strict=True))):
            if held != tensor or not 0 <= op < until or kind == BindingKind.STORE or span < 0:
                continue
            if index.recording.ops.column("kind")[op] != OpKind.MODE and self._is_inside(op):
                return int(span)
        return NONE

    @cached_property
    def _has_wrapped(self) -> bool:
        return any(flags & NO_STORAGE for flags in self._index.recording.tensors.column("flags"))

    def _is_inside(self, op: int) -> bool:
        index, flags = self._index, self._index.recording.tensors.column("flags")
        if index.recording.ops.column("flags")[op] & MADE:
            return False
        if index.func(op) in _IMPLEMENTATIONS or index.recording.ops.column("kind")[op] == OpKind.MODE:
            return True
        return any(flags[one] & NO_STORAGE for one in (*index.uses.of(op), *index.made.of(op)))
