"""State of the program's own that a checkpointed function updates from what it was, and that backward updates again.

``self.counts.mul_(0.9).add_(hits)``, ``self.mean = 0.9 * self.mean + 0.1 * x.mean(0)``. What is overwritten with values
that do not depend on what it was before is the same after a second run. That backward came as far as the update was
counted: the function is left as soon as all that backward needs is there.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.modules.checkpoints import reruns
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import BindingKind, EventKind, OpKind, TensorFlag

_FROM_ITSELF = re.compile(
    r"(?:Tensor\.|torch\._foreach_)(?:__i(?:add|sub|mul|truediv)__|(?:add|sub|mul|div|lerp|addcmul|addcdiv|index_add"
    r"|scatter_add|scatter_reduce|addmm|baddbmm|logical_or|logical_and|roll)_)"
)
_OVERWRITES = re.compile(r"Tensor\.(?:__setitem__|copy_|index_copy_|masked_scatter_|index_put_)")


class UpdatedAgain(NamedTuple):
    """One run of a checkpointed function."""

    event: Happened
    """Where it began."""
    updates: dict[int, int]
    """Tensors that it updated, each with the op."""


def updated_again(index: Index, events: Events, passes: Passes, sharing: StorageGroups) -> Iterator[UpdatedAgain]:
    """One for each run of a checkpointed function with updates that backward ran as well."""
    inside = {
        (event.span, str(event.detail.get("function")))
        for event in events.of(EventKind.RECOMPUTED)
        if not event.detail.get("within")
    }
    if not inside:
        return
    finder = _Updates(index, sharing)
    threads = index.recording.ops.column("thread")
    walked = {rerun.event.row for rerun in reruns(index, events, passes)}
    for begun, end in _runs(events, index.op_count, walked):
        ops = [op for op in range(begun.op, end) if threads[op] == begun.thread]
        spans = index.recording.ops.column("span")
        again = {op for op in ops if (spans[op], index.func(op)) in inside}
        if again and (updates := {tensor: op for op, tensor in finder.of_run(begun.op, ops) if op in again}):
            yield UpdatedAgain(begun, updates)


def _runs(events: Events, op_count: int, walked: Container[int]) -> Iterator[tuple[Happened, int]]:
    """Where each checkpointed function began to run, and the op before which it was done.

    Of those that are not reentrant only such as a backward pass came through; of others that is not seen in a graph.
    """
    for kind in (EventKind.CHECKPOINT, EventKind.REENTRANT_CHECKPOINT):
        begun: dict[int, Happened] = {}
        for event in events.of(kind):
            if event.detail.get("begins"):
                begun[event.subject] = event
                continue
            first = begun.pop(event.subject, None)
            if first is not None and (kind == EventKind.REENTRANT_CHECKPOINT or first.row in walked):
                yield first, min(event.op, op_count)


class _Updates:
    def __init__(self, index: Index, sharing: StorageGroups) -> None:
        self._index = index
        self._sharing = sharing
        self._written: dict[int, list[int]] = {}
        for op, tensor, _, _ in all_writes(index):
            self._written.setdefault(op, []).append(tensor)
        self._stored: dict[int, list[tuple[str, int]]] = {}
        self._loaded: dict[tuple[str, int], set[int]] = {}
        self._read_bindings()

    def of_run(self, begun: int, ops: list[int]) -> Iterator[tuple[int, int]]:
        """The updates of one run: the op, and a tensor that was there before the run and has no gradient."""
        kinds = self._index.recording.ops.column("kind")
        for op in ops:
            if kinds[op] != OpKind.CALL:
                continue
            for tensor in self._written.get(op, ()):
                state = self._state(tensor, begun)
                if state is not None and self._is_from_itself(op, state, begun):
                    yield op, state
            for tensor in self._index.tensors_made(op):
                yield from ((op, old) for old in self._replaced(tensor, begun))

    def _read_bindings(self) -> None:
        bindings, statements, text = (
            self._index.recording.bindings,
            self._index.statement_of_span,
            self._index.recording.text,
        )
        columns = (bindings.column(name) for name in ("name", "tensor", "span", "kind"))
        for name, tensor, span, kind in zip(*columns, strict=True):
            if span < 0 or "." not in text(name):
                continue
            if kind == BindingKind.STORE:
                self._stored.setdefault(tensor, []).append((text(name), statements[span]))
            elif kind == BindingKind.LOAD:
                self._loaded.setdefault((text(name), statements[span]), set()).add(tensor)

    def _state(self, tensor: int, begun: int) -> int | None:
        """The tensor, or that of which it is a view, where it was there before and takes part in no graph."""
        base = self._sharing.base_of(tensor)
        for one in (base, tensor):
            if one >= 0 and self._was_there(one, begun):
                return one
        return None

    def _was_there(self, tensor: int, begun: int) -> bool:
        tensors, storages = self._index.recording.tensors, self._index.recording.storages
        storage, flags = tensors.column("storage")[tensor], tensors.column("flags")[tensor]
        seen_at = storages.column("op")[storage] if storage >= 0 else tensors.column("op")[tensor]
        is_state = tensors.column("node")[tensor] < 0 and not flags & TensorFlag.REQUIRES_GRAD
        is_older = seen_at < begun or (storage >= 0 and bool(storages.column("external")[storage]))
        return is_state and is_older

    def _is_from_itself(self, op: int, state: int, begun: int) -> bool:
        func = self._index.func(op)
        if _FROM_ITSELF.fullmatch(func):
            return True
        others = list(self._index.uses.of(op))[1:]
        return bool(_OVERWRITES.fullmatch(func)) and any(self._comes_from(one, {state}, begun) for one in others)

    def _comes_from(self, tensor: int, states: set[int], begun: int) -> bool:
        """Whether a tensor was computed from one of some others since the run began."""
        todo, seen = [tensor], set[int]()
        made_at, flags = (self._index.recording.tensors.column(name) for name in ("op", "flags"))
        while todo:
            one = todo.pop()
            if one in states or self._sharing.base_of(one) in states:
                return True
            if one not in seen and made_at[one] >= begun and not flags[one] & EXTERNAL:
                seen.add(one)
                todo += self._index.uses.of(made_at[one])
        return False

    def _replaced(self, tensor: int, begun: int) -> Iterator[int]:
        """What an assignment replaced that made a tensor of the one that had its name: ``self.n = self.n + 1``."""
        tensors = self._index.recording.tensors
        if tensors.column("node")[tensor] >= 0:
            return
        for stored in self._stored.get(tensor, ()):
            for old in self._loaded.get(stored, ()):
                is_older = old < tensor and tensors.column("op")[old] < tensors.column("op")[tensor]
                if is_older and tensors.column("node")[old] < 0 and self._comes_from(tensor, {old}, begun):
                    yield old
