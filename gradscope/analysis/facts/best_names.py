"""What the program calls a tensor: the best of the names under which it was seen, by identity."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from functools import cached_property

from gradscope.analysis.facts.slots import find_slots
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, PARAMETER
from gradscope.recording.rows import BindingKind

SOURCE_AS_NAME = 24
"""Characters up to which the text of a call stands for its result."""

_AT_BIRTH, _PARAMETER_PATH, _IN_ITS_SCOPE, _MEMBER_PATH, _ELSEWHERE, _SELF = 6, 5, 4, 3, 2, 1
_STEPS = 128
"""Ranks between two kinds of names, for paths of different lengths."""
_OWN = ("self.", "cls.")


class BestNames:
    """Best names of tensors.

    The name stored by the statement that made the tensor comes first; then, for parameters, the longest path, which
    starts at the outermost object (``model.fc.weight``, not ``fc.weight`` or ``self.weight`` of a layer); then names of
    the scope where it was made or of the module; then paths into objects; then names that other functions gave it.
    Among equals the first one seen.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._strings = index.recording.strings

    @cached_property
    def _seen(self) -> tuple[array[int], array[int]]:
        """For each tensor the text id of the best name under which it was seen itself, and the name's rank."""
        index, recording = self._index, self._index.recording
        tensors = recording.tensors
        flags, made_at = tensors.column("flags"), tensors.column("op")
        best = array("i", [NONE]) * len(tensors)
        ranks = array("h", [0]) * len(tensors)
        statement_of_span, op_statement = index.statement_of_span, index.op_statement
        bindings = recording.bindings
        columns = (bindings.column(name) for name in ("name", "tensor", "span", "kind"))
        for name, tensor, span, kind in zip(*columns, strict=True):
            if ranks[tensor] == _AT_BIRTH * _STEPS:
                continue
            statement = statement_of_span[span]
            op = made_at[tensor]
            born_at = op_statement[op] if op < index.op_count and not flags[tensor] & EXTERNAL else NONE
            is_path = kind == BindingKind.MEMBER or "." in self._strings[name]
            if is_path and flags[tensor] & PARAMETER:
                rank = self._rank_parameter(name)
            elif kind == BindingKind.STORE and statement == born_at:
                rank = _AT_BIRTH * _STEPS
            elif is_path:
                rank = (_SELF if self._strings[name].startswith(_OWN) else _MEMBER_PATH) * _STEPS
            else:
                rank = self._rank_plain(statement, born_at) * _STEPS
            if rank > ranks[tensor]:
                ranks[tensor] = rank
                best[tensor] = name
        return best, ranks

    @cached_property
    def best(self) -> array[int]:
        """The text id of each tensor's best name; NONE for a tensor that no name held.

        In loops only the first runs of a call are matched with names, then ever fewer: the results of the others have
        the best name that the same result had in an earlier run.
        """
        best, ranks = self._seen
        best, at_birth = best[:], _AT_BIRTH * _STEPS
        stored_as: dict[int, tuple[int, int]] = {}
        for tensor, slot in enumerate(self.slots):
            if slot < 0:
                continue
            rank, name = stored_as.get(slot, (0, NONE))
            if ranks[tensor] >= rank:
                stored_as[slot] = ranks[tensor], best[tensor]
            elif not ranks[tensor] or rank == at_birth:
                best[tensor] = name
        return best

    @cached_property
    def slots(self) -> array[int]:
        """For each tensor, an id that it shares with the same result of the same call in other runs."""
        at_birth = _AT_BIRTH * _STEPS
        return find_slots(self._index, bytearray(rank == at_birth for rank in self._seen[1]))

    def _rank_parameter(self, name: int) -> int:
        text = self._strings[name]
        if "." not in text:
            return _MEMBER_PATH * _STEPS
        return _PARAMETER_PATH * _STEPS + min(2 * text.count(".") + (not text.startswith(_OWN)), _STEPS - 1)

    def _rank_plain(self, statement: int, born_at: int) -> int:
        if not statement:
            return _IN_ITS_SCOPE
        statements = self._index.statements
        function = self._strings[statements[statement].function]
        same = born_at > 0 and statements[statement].function == statements[born_at].function
        return _IN_ITS_SCOPE if same or function == "<module>" else _ELSEWHERE

    def of(self, tensor: int) -> str:
        """The best name of a tensor, or what made it: ``<y.detach()>``, ``<pow>``; empty for NONE."""
        if tensor < 0:
            return ""
        seen, ending = {tensor}, ""
        while self.best[tensor] < 0 and (owner := self._gradient_owner.get(tensor, tensor)) not in seen:
            seen.add(owner)  # two tensors may be each other's gradient
            tensor, ending = owner, f"{ending}.grad"
        return self._own_name(tensor) + ending

    def _own_name(self, tensor: int) -> str:
        name = self.best[tensor]
        if name >= 0:
            return self._strings[name]
        tensors = self._index.recording.tensors
        if tensors.column("flags")[tensor] & EXTERNAL:
            return "<unnamed>"
        op = tensors.column("op")[tensor]
        source = self._index.span_source(op, exact=True)
        return f"<{source if 0 < len(source) <= SOURCE_AS_NAME else self._index.call_name(op).removeprefix('Tensor.')}>"

    @cached_property
    def of_parameters(self) -> frozenset[str]:
        """Names of all parameters: a beginning that stands for some of them must not seem to stand for others."""
        flags = self._index.recording.tensors.column("flags")
        return frozenset(self.of(tensor) for tensor, flag in enumerate(flags) if flag & PARAMETER)

    def is_named(self, tensor: int) -> bool:
        """Whether the program was seen to hold the tensor under a name."""
        return self.best[tensor] >= 0

    @cached_property
    def _gradient_owner(self) -> dict[int, int]:
        gradients = self._index.recording.gradients
        owners = zip(gradients.column("grad"), gradients.column("tensor"), strict=True)
        return {gradient: owner for gradient, owner in owners if gradient >= 0 and gradient != owner}

    def all_of(self, tensors: Iterable[int]) -> dict[int, tuple[str, ...]]:
        """Every name of each of some tensors, the best first."""
        wanted = {tensor: [self.of(tensor)] if self.is_named(tensor) else [] for tensor in tensors}
        bindings = self._index.recording.bindings
        for name, tensor in zip(bindings.column("name"), bindings.column("tensor"), strict=True):
            if tensor in wanted and (text := self._strings[name]) not in wanted[tensor]:
                wanted[tensor].append(text)
        return {tensor: tuple(names) for tensor, names in wanted.items()}
