"""Writes that mix a tensor into itself where two were meant: ``slow.lerp_(fast, 0.01)``, and both are one tensor.

What changes one tensor with its own values on purpose calls it by one name (``p.mul_(0.9).add_(p, alpha=0.1)``); a
statement that calls it by two takes it for two. That a tensor is copied onto itself, or is moved towards itself, has
no use whatever its names.
"""

from __future__ import annotations

import re
from collections.abc import Container

from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.facts.writes import all_writes, is_step
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording.rows import BindingKind

_ONTO = re.compile(r"Tensor\.(lerp_|copy_)|torch\._foreach_(lerp_|copy_)")
"""Calls that leave a tensor as it is where they are given the tensor itself."""
_MIXES = re.compile(r"Tensor\.(add_|sub_|lerp_|copy_|__iadd__|__isub__)|torch\._foreach_(add_|sub_|lerp_|copy_)")
_STATEMENT = 16
"""Ops before a write among which those of the same run of its statement are looked for."""


def mixed_with_itself(index: Index, sharing: StorageGroups, tensors: Container[int]) -> dict[int, int]:
    """For each of some tensors that was mixed with itself as if it were two: the last op that did so."""
    finder = _SelfMixing(index, sharing, tensors)
    found: dict[int, int] = {}
    for op, written, _, _ in all_writes(index):
        tensor = finder.own(written)
        if tensor in tensors and op < index.op_count and finder.mixes(op, tensor):
            found[tensor] = op
    return found


class _SelfMixing:
    def __init__(self, index: Index, sharing: StorageGroups, tensors: Container[int]) -> None:
        self._index = index
        self._sharing = sharing
        self._tensors = tensors
        self._names: dict[int, list[tuple[int, int]]] = {}
        bindings = index.recording.bindings
        columns = (bindings.column(name) for name in ("tensor", "op", "name", "kind"))
        for tensor, op, name, kind in zip(*columns, strict=True):
            if kind == BindingKind.LOAD:
                self._names.setdefault(tensor, []).append((op, name))

    def mixes(self, op: int, tensor: int) -> bool:
        index, func = self._index, self._index.func(op)
        if is_step(index, op) or index.op_statement[op] == NOWHERE or not _MIXES.fullmatch(func):
            return False
        uses = [self.own(use) for use in index.uses.of(op)]
        if _ONTO.fullmatch(func) and uses.count(tensor) > 1:
            return True
        is_own = uses.count(tensor) > 1 or any(self._is_made_of(use, tensor, op) for use in index.uses.of(op))
        return is_own and len(self._called(tensor, op)) > 1

    def own(self, tensor: int) -> int:
        """The one of the tensors that are looked at on whose memory another one is (``p.data``); else itself."""
        base = tensor if tensor in self._tensors else self._sharing.base_of(tensor)
        return base if base in self._tensors else tensor

    def _is_of_run(self, op: int, of: int) -> bool:
        statements = self._index.op_statement
        return of - _STATEMENT <= op <= of and statements[op] == statements[of]

    def _is_made_of(self, made: int, tensor: int, op: int) -> bool:
        """Whether the statement of an op made a tensor of another one."""
        made_at = self._index.recording.tensors.column("op")[made]
        return (
            made_at < op
            and self.own(made) != tensor
            and self._is_of_run(made_at, op)
            and any(
                self.own(use) == tensor or (use != made and self._is_made_of(use, tensor, made_at))
                for use in self._index.uses.of(made_at)
            )
        )

    def _called(self, tensor: int, op: int) -> set[str]:
        """The names by which a statement reads a tensor; that of a loop around it gives it further ones."""
        text, source = self._index.recording.text, self._index.op_place(op).source
        names = {text(name) for at, name in self._names.get(tensor, ()) if self._is_of_run(at, op)}
        return {name for name in names if re.search(rf"(?<![\w.]){re.escape(name)}\b", source)}
