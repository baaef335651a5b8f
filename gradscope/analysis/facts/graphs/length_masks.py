"""Comparisons of positions with lengths: ``torch.arange(n) < lengths[:, None]`` is True where there is an item.

A count is a length, as opposed to a place where something begins, where the program calls it one, or computed it from
what is not padding, or divides sums by it.
"""

from __future__ import annotations

import re
from functools import cached_property

from gradscope.analysis.index import Index

_BELOW, _ABOVE = frozenset(("Tensor.lt", "Tensor.le")), frozenset(("Tensor.gt", "Tensor.ge"))
_LAID_OUT = frozenset(
    f"Tensor.{name}"
    for name in (
        *("__getitem__", "unsqueeze", "squeeze", "view", "reshape", "expand", "expand_as", "repeat", "contiguous"),
        *("to", "long", "int", "clone", "cpu", "cuda", "detach", "float", "type_as", "type", "flatten"),
    )
)
_COUNTS = frozenset(("Tensor.sum", "Tensor.count_nonzero"))
_DIVIDES = frozenset(("Tensor.div", "Tensor.__truediv__", "Tensor.div_", "Tensor.__itruediv__"))
_LENGTH = re.compile(r"len", re.IGNORECASE)
_OTHER_COUNT = re.compile(r"pad|pre|prompt|start|skip|offset|context", re.IGNORECASE)
"""Lengths of what comes before the items, or of something that is left out on purpose."""
_FARTHEST = 8


class LengthMasks:
    """Which comparisons of a recording are such ones."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def is_within(self, op: int) -> bool | None:
        """Whether a comparison is True where there is an item, or, else, where there is padding; None for others."""
        method, taken = self._index.method(op), list(self._index.uses.of(op))
        if method not in _BELOW | _ABOVE or len(taken) != 2:
            return None
        for at in (0, 1):
            if self._is_positions(taken[at]) and self._is_length(taken[1 - at]):
                return (method in _BELOW) == (at == 0)
        return None

    def _is_positions(self, tensor: int) -> bool:
        return self._index.method(self._index.made_by(self._behind(tensor)[-1])) == "Tensor.arange"

    def _is_length(self, tensor: int) -> bool:
        index, chain = self._index, self._behind(tensor)
        made = index.made_by(chain[-1])
        names = [name.rpartition(".")[2] for one in chain for name in self._names.get(one, ())]
        if any(_OTHER_COUNT.search(name) for name in names) or self._is_positions(tensor):
            return False
        is_computed = 0 <= made < index.op_count and len(index.uses.of(made)) > 0
        if is_computed:  # (of other tensors: ``n - lengths`` is where items begin)
            return index.method(made) in _COUNTS and self._counts_items(made)
        source = index.span_source(made) if made >= 0 else ""
        return any(_LENGTH.search(name) for name in names) or "len(" in source or self._is_divided_by(chain)

    def _counts_items(self, op: int) -> bool:
        """Whether what is summed up is a comparison with the padding that is True elsewhere."""
        index = self._index
        compared = index.made_by(self._behind(index.uses.of(op)[0])[-1])
        source = index.span_source(compared) if compared >= 0 else ""
        return index.method(compared) in ("Tensor.ne", "Tensor.__ne__") and bool(
            re.search(r"pad|!=\s*0\)?$|\bne\([^,]*\b0\)$", source, re.IGNORECASE)
        )

    def _is_divided_by(self, chain: list[int]) -> bool:
        """Whether a sum is divided by it."""
        index, todo = self._index, [chain[-1]]
        for tensor in todo:
            for op in index.users.of(tensor):
                taken = list(index.uses.of(op))
                if index.method(op) in _DIVIDES and len(taken) == 2 and taken[1] == tensor:
                    if index.method(index.made_by(taken[0])) == "Tensor.sum":
                        return True
                elif index.method(op) in _LAID_OUT and len(todo) < _FARTHEST:
                    todo += index.tensors_made(op)
        return False

    def _behind(self, tensor: int) -> list[int]:
        """A tensor, and what it was laid out from or converted from, the last one last."""
        index, chain = self._index, [tensor]
        for _ in range(_FARTHEST):
            op = index.made_by(chain[-1])
            taken = list(index.uses.of(op)) if 0 <= op < index.op_count else []
            if len(taken) != 1 or index.method(op) not in _LAID_OUT:
                break
            chain.append(taken[0])
        return chain

    @cached_property
    def _names(self) -> dict[int, list[str]]:
        bindings, text = self._index.recording.bindings, self._index.recording.text
        found: dict[int, list[str]] = {}
        for tensor, name in zip(bindings.column("tensor"), bindings.column("name"), strict=True):
            found.setdefault(tensor, []).append(text(name))
        return found
