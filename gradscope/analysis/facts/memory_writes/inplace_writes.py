"""Writes in place: who wrote into which memory, who else sees it, and what it does to a later backward pass."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.function_sources import Lines
from gradscope.analysis.facts.library_calls import LibraryCalls
from gradscope.analysis.facts.memory_writes.kept_attributes import KeptAttributes
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.passes.node_lifetimes import held_until
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.passes.usable_nodes import UsableNodes
from gradscope.analysis.facts.storage_groups import Letters, StorageGroups
from gradscope.analysis.facts.writes import all_writes, is_step, replaced_memory, writes_by_program
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import InplaceWrite, WriteEffect
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, RAISED, REQUIRES_GRAD

_SEVERITY: tuple[WriteEffect, ...] = (
    "none",
    "unknown",
    "would_raise",
    "would_be_silently_wrong",
    "raised",
    "silently_wrong",
)


class Effect(NamedTuple):
    """What a write does to a backward pass through a node that had saved the memory."""

    effect: WriteEffect = "none"
    saved_row: int = NONE
    backward_op: int = NONE

    @property
    def severity(self) -> int:
        return _SEVERITY.index(self.effect)


_NO_EFFECT = Effect()


@dataclass(eq=False, repr=False)
class JudgedWrite:
    """Writes at one statement through one name; described by the last of those with the worst effect."""

    op: int
    tensor: int
    before: int
    """Its version; NONE where the write went past the version counter."""
    after: int
    effect: Effect = _NO_EFFECT
    count: int = 0
    last_op: int = NONE
    is_replacement: bool = False
    """Nothing was written: the tensor was put on other memory."""
    stepped: set[int] = field(default_factory=set)
    """What an optimizer's steps wrote: those of a statement are one row."""


class InplaceWrites:
    """Finds every write in place, and judges it."""

    def __init__(self, index: Index, names: BestNames, sharing: StorageGroups, passes: Passes) -> None:
        self._index = index
        self._names = names
        self._sharing = sharing
        self._passes = passes
        self._saved_by = index.recording.saved.column("node")

    def describe(self, letters: Letters, libraries: LibraryCalls) -> tuple[InplaceWrite, ...]:
        """Writes as a report shows them: by statement and name, the last of those with the worst effect."""
        return tuple(
            self._report(write, letters)._replace(
                by_library=bool(libraries.makes[write.op]) and bool(libraries.unclaimed[write.tensor])
            )
            for write in self.judged
        )

    @cached_property
    def judged(self) -> list[JudgedWrite]:
        """Writes by statement, function and name; each run is judged, and the worst effect is kept."""
        index, groups = self._index, dict[tuple[int, int, int], JudgedWrite]()
        saved_rows = self._saved_on({index.storage_at(tensor, op) for op, tensor, _, _ in writes_by_program(index)})
        for op, tensor, before, after in writes_by_program(index):
            group = self._group_of(groups, op, tensor, before, after)
            group.count += index.weights[op] if op != group.last_op else 0
            group.last_op = op
            if is_step(index, op):
                group.stepped.add(tensor)
            effect = self._judge(op, tensor, before == NONE, saved_rows.get(index.storage_at(tensor, op), ()))
            if effect.severity >= group.effect.severity:
                group.op, group.tensor, group.before, group.after, group.effect = op, tensor, before, after, effect
        return [*groups.values(), *self._judged_replacements()]

    def _judged_replacements(self) -> list[JudgedWrite]:
        """Tensors that were put on other memory while a node had saved them: backward takes what lies there then."""
        replaced, groups = list(replaced_memory(self._index)), dict[tuple[int, int, int], JudgedWrite]()
        saved_rows = self._saved_on({storage for _, _, storage in replaced})
        kept = self._index.recording.saved.column("tensor")
        for op, tensor, storage in replaced:
            itself = [place for place in saved_rows.get(storage, ()) if kept[place[1]] == tensor]
            effect = self._judge(op, tensor, True, itself)
            if effect.effect != "none":
                group = self._group_of(groups, op, tensor, NONE, NONE)
                group.count += self._index.weights[op] if op != group.last_op else 0
                group.op = group.last_op = op
                group.effect, group.is_replacement = effect, True
        return list(groups.values())

    def _group_of(
        self, groups: dict[tuple[int, int, int], JudgedWrite], op: int, tensor: int, before: int, after: int
    ) -> JudgedWrite:
        name = NONE if is_step(self._index, op) else self._names.best[tensor]
        key = (self._index.op_statement[op], self._index.recording.ops.column("func")[op], name)
        return groups.setdefault(key, JudgedWrite(op, tensor, before, after))

    def _saved_on(self, storages: set[int]) -> dict[int, list[tuple[int, int]]]:
        """For each storage that is written: (op of the node, row of ``saved``), in order."""
        saved, node_op = self._index.recording.saved, self._index.recording.nodes.column("op")
        found: dict[int, list[tuple[int, int]]] = {}
        for row, (node, storage) in enumerate(zip(saved.column("node"), saved.column("storage"), strict=True)):
            if storage in storages and storage >= 0:
                found.setdefault(storage, []).append((node_op[node], row))
        for rows in found.values():
            rows.sort()
        return found

    def _judge(self, op: int, tensor: int, is_past: bool, saved: list[tuple[int, int]] | tuple[()]) -> Effect:
        """Whether a node had saved the memory before the write, past the version counter or not, and could be used."""
        earlier = bisect_left(saved, (op, NONE)) if saved else 0
        worst = _NO_EFFECT
        begin, end = max(0, earlier - 8), bisect_left(saved, (op + 1, NONE)) if saved else 0
        for node_op, row in reversed(saved[begin:end]):
            node = self._saved_by[row]
            if node_op == op and not self._attributes.is_made_before(row, op):
                continue
            if 0 <= self._passes.used_up_at[node] < op or self._held_until[node] <= op:
                continue
            if is_past and (node, tensor) in self._kept_as_destination:
                continue
            effect, backward_op = self._effect(op, tensor, is_past, row, node)
            if effect != "none":
                worst = max(worst, Effect(effect, row, backward_op), key=lambda one: one.severity)
        return worst

    @cached_property
    def _kept_as_destination(self) -> frozenset[tuple[int, int]]:
        """Nodes with a tensor into which their own call wrote past the counter: its values are not for backward.

        A batch norm in training keeps the running statistics that it writes; backward uses those of the batch.
        """
        written: dict[int, list[int]] = {}
        for op, tensor, before, _ in all_writes(self._index):
            if before == NONE:
                written.setdefault(op, []).append(tensor)
        made_at = self._index.recording.nodes.column("op")
        return frozenset((node, tensor) for node, op in enumerate(made_at) for tensor in written.get(op, ()))

    def _effect(self, op: int, tensor: int, is_past: bool, row: int, node: int) -> tuple[WriteEffect, int]:
        """What it does to the next pass; no counter is compared of a tensor that a ctx has as a plain attribute."""
        counters = self._counters_of_saved(row, node)
        own = self._sharing.versions.of(tensor)
        is_attribute = self._attributes.is_one(row)
        if is_attribute and not self._attributes.is_read_by_backward(row):
            return "none", NONE
        if len(counters) > 1 and own in counters and not is_past and not is_attribute:
            return "unknown", NONE
        shared = (not counters or own in counters) and not is_past and not is_attribute
        walked = self._walked_after(node, op)
        if walked < 0:
            return self._effect_later(op, node, counters, shared, is_attribute), NONE
        if shared:
            return ("raised", walked) if self._raised_inplace(walked) else ("none", NONE)
        return ("none", NONE) if self._raised(walked) else ("silently_wrong", walked)

    def _effect_later(self, op: int, node: int, counters: set[int], shared: bool, is_attribute: bool) -> WriteEffect:
        """What it would do to a pass that the program never began, up to when none could have come to the node."""
        until = self._usable.until(node)
        if until <= op:
            return "none"  # (who comes to it goes through what a pass has freed)
        if shared:
            return "would_raise"
        made_at = self._index.recording.nodes.column("op")[node]
        if not is_attribute and any(self._is_counted(counter, made_at, until) for counter in counters):
            return "none" if len(counters) == 1 else "unknown"  # (the other write makes torch raise)
        return "would_be_silently_wrong"

    def _is_counted(self, counter: int, after: int, until: int) -> bool:
        """Whether a write between two ops raised a version counter."""
        ops = self._counted.get(counter, [])
        return bisect_left(ops, after + 1) < bisect_left(ops, until)

    @cached_property
    def _counted(self) -> dict[int, list[int]]:
        """The ops, in order, that raised each version counter of what was there before."""
        flags, made_at = (self._index.recording.tensors.column(name) for name in ("flags", "op"))
        found: dict[int, list[int]] = {}
        for op, tensor, before, after in all_writes(self._index):
            if before != NONE and after > before and (op != made_at[tensor] or flags[tensor] & EXTERNAL):
                found.setdefault(self._sharing.versions.of(tensor), []).append(op)
        for ops in found.values():
            ops.sort()
        return found

    @cached_property
    def _usable(self) -> UsableNodes:
        return UsableNodes(self._index, self._passes, self._held_until)

    @cached_property
    def _attributes(self) -> KeptAttributes:
        return KeptAttributes(self._index)

    @cached_property
    def _held_until(self) -> array[int]:
        return held_until(self._index, self._passes)

    def _counters_of_saved(self, row: int, node: int) -> set[int]:
        """The version counter that a saved tensor has, or all that it may have where another object was kept."""
        tensor, storage = (self._index.recording.saved.column(name)[row] for name in ("tensor", "storage"))
        output = self._index.node_tensor[node]
        if tensor < 0 <= output and self._storage(output) == storage:
            tensor = output  # a node keeps its own result without the object that Python holds
        on_block = [tensor] if tensor >= 0 else self._saved_from(node, storage)
        return {self._sharing.versions.of(other) for other in on_block}

    def _saved_from(self, node: int, storage: int) -> list[int]:
        """Tensors on a block of which a node may have kept a view: its op's inputs, or else all that were alive."""
        tensors, op = self._index.recording.tensors, self._index.recording.nodes.column("op")[node]
        inputs = [taken for taken in self._index.uses.of(op) if self._storage(taken) == storage]
        if inputs:
            return inputs
        born, died = tensors.column("op"), tensors.column("died")
        on_block = self._sharing.tensors_on.get(storage, [])
        return [other for other in on_block if born[other] <= op and (died[other] == NONE or died[other] > op)]

    def _walked_after(self, node: int, op: int) -> int:
        passes = self._passes
        walks = (passes.first_walked_at[node], passes.used_up_at[node], passes.last_walked_at[node])
        return next((walked for walked in walks if walked > op), NONE)

    def _raised(self, op: int) -> bool:
        return bool(self._index.recording.ops.column("flags")[op] & RAISED)

    def _raised_inplace(self, op: int) -> bool:
        recording = self._index.recording
        return any(row.op == op and "inplace" in recording.text(row.message) for row in recording.errors)

    def _storage(self, tensor: int) -> int:
        return self._index.recording.tensors.column("storage")[tensor]

    def _report(self, write: JudgedWrite, letters: Letters) -> InplaceWrite:
        index = self._index
        by_step = is_step(index, write.op)
        storage = index.storage_at(write.tensor, write.op)
        others = [tensor for tensor in self._sharing.named_on(storage) if self._sees(tensor, write)]
        others = [] if write.is_replacement else others
        own = self._sharing.versions.of(write.tensor)
        name = self._names.at(write.tensor, write.op)
        is_past = write.before == NONE
        return InplaceWrite(
            place=index.place(index.op_statement[write.op]),
            op=index.func(write.op),
            executions=write.count,
            name=name,
            storage="" if by_step else letters.of(storage),
            version_before=None if by_step or is_past else write.before,
            version_after=None if by_step or is_past else write.after,
            seen_by=tuple(other for other in (self._names.at(tensor, write.op) for tensor in others) if other != name),
            past_autograd=(is_past and self._tracked(write.tensor))
            or any(self._tracked(other) and (is_past or self._sharing.versions.of(other) != own) for other in others),
            saved_as=self.saved_as(write),
            saved_line=index.op_line(self.saved_at(write)),
            effect=write.effect.effect,
            backward_line=index.op_line(write.effect.backward_op),
            tensors=max(1, len(write.stepped)),
        )

    def _sees(self, tensor: int, write: JudgedWrite) -> bool:
        row = self._index.recording.tensors[tensor]
        alive = row.op <= write.op and (row.died == NONE or row.died > write.op)
        return alive and tensor != write.tensor

    def _tracked(self, tensor: int) -> bool:
        return bool(self._index.recording.tensors.column("flags")[tensor] & REQUIRES_GRAD)

    def saved_as(self, write: JudgedWrite) -> str:
        """What a node had saved of the memory: ``self of MulBackward0``; empty for nothing."""
        if write.effect.saved_row < 0:
            return ""
        recording = self._index.recording
        saved = recording.saved[write.effect.saved_row]
        return f"{recording.text(saved.attr)} of {recording.text(recording.nodes.column('name')[saved.node])}"

    def kept_at(self, write: JudgedWrite) -> Lines | None:
        """The line by which a Function's ctx has got the memory as an attribute; None where none does."""
        row = write.effect.saved_row
        return self._attributes.line(row) if row >= 0 and self._attributes.is_one(row) else None

    def saved_at(self, write: JudgedWrite) -> int:
        """The op whose node had saved the memory, or NONE."""
        if write.effect.saved_row < 0:
            return NONE
        return self._index.recording.nodes.column("op")[self._saved_by[write.effect.saved_row]]
