"""Which inputs a call takes for their values: of some functions it is only the shape, the dtype or the device."""

from __future__ import annotations

from array import array
from functools import cached_property

from gradscope.analysis.index import Index

_LIKE_ANOTHER = frozenset(("Tensor.expand_as", "Tensor.view_as", "Tensor.reshape_as", "Tensor.type_as"))


class ValuesTaken:
    """Tells the inputs of a call whose values go into its result."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._funcs = index.recording.ops.column("func")

    @cached_property
    def by_shape_only(self) -> frozenset[int]:
        """Functions that take tensors for their shape and dtype: nothing is lost in them, nothing made of them."""
        taken = set()
        for func in set(self._funcs):
            name = self._index.recording.text(func)
            last = name.rpartition(".")[2]
            is_new = last.startswith("new_") and last != "new_tensor"
            if is_new or last.endswith("_like") or name.startswith("nn.init."):
                taken.add(func)
        return frozenset(taken)

    @cached_property
    def by_second_input(self) -> frozenset[int]:
        """Functions that take their first tensor for its dtype: ``new_tensor``."""
        return frozenset(func for func in set(self._funcs) if self._index.recording.text(func) == "Tensor.new_tensor")

    @cached_property
    def by_first_input(self) -> frozenset[int]:
        """Functions that take all but their first tensor for its shape or dtype: ``x.expand_as(y)``."""
        return frozenset(func for func in set(self._funcs) if self._index.recording.text(func) in _LIKE_ANOTHER)

    def of(self, op: int) -> array[int]:
        """The inputs of a call whose values it took."""
        taken, func = self._index.uses.of(op), self._funcs[op]
        if func in self.by_shape_only:
            return taken[:0]
        if func in self.by_first_input:
            return taken[:1]
        return taken[1:] if func in self.by_second_input else taken
