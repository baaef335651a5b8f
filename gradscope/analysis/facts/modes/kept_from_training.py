"""Leaves that a program keeps out of training by what it does with them: teachers, targets, averages, frozen parts."""

from __future__ import annotations

from functools import cached_property

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.facts.tracking.values_taken import ValuesTaken
from gradscope.analysis.facts.writes import all_writes, is_step
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, GRAD, INFERENCE

_WRITTEN_OUT = ("no_grad", "inference_mode", "detach")
"""Kinds of cuts that somebody wrote to have no gradient; others come about by the way."""
_AVERAGES = "AveragedModel.update_parameters"
_COPIES = ("__deepcopy__", _AVERAGES)
"""What takes values over into other leaves: of a template the copy may be what is trained, of a model the average."""
_WRITES_TRACED = 8
"""First writes of a leaf whose values are traced back: an average of weights takes them from others from the start."""


class KeptFromTraining:
    """Tells whether a cut that keeps a leaf from its gradient fits with how the program treats the leaf."""

    def __init__(self, index: Index, cuts: Cuts, flow: Flow, events: Events) -> None:
        self._index = index
        self._cuts = cuts
        self._flow = flow
        self._events = events
        self._values = ValuesTaken(index)

    def because(self, leaf: int, cut: int) -> str:
        """Why a leaf seems to be meant to get no gradient past a cut, to follow a comma; empty where nothing says so.

        Where optimizers were made, those that they were given are trained. Where none was seen, a leaf whose values
        are taken from others, or a copy that is only used with gradients off, is not.
        """
        if cut < 0:
            return ""
        is_copied = self._index.func(cut).endswith(_COPIES)
        is_off = self._index.recording.ops.column("flags")[cut] & (GRAD | INFERENCE) != GRAD
        is_meant = is_copied and (self._events.in_optimizers or is_off)
        if self._cuts.kind(cut) not in _WRITTEN_OUT and not is_meant:
            return ""
        held = self._events.in_optimizers
        if held:
            if leaf not in held:
                return "and no optimizer holds it itself" if is_copied else "and no optimizer holds it"
            if self.is_average(leaf):
                return "and it is an average of other weights"
            given = {tensor for event in held[leaf] for tensor in event.tensors}
            has_ended_early = bool(self._index.recording.errors) and not given & self._stepped
            return "and the optimizer that holds it had not made a step" if has_ended_early else ""
        if self._is_written_from_others(leaf):
            return "and its values are written from other leaves"
        return "and it is a copy that is only used so" if self._is_copy_without_gradients(leaf) else ""

    def is_kept_by_writes(self, leaf: int) -> bool:
        """Whether a leaf that no optimizer has, while others have theirs, is an average or a copy of other leaves."""
        held = self._events.in_optimizers
        return bool(held) and leaf not in held and (self.is_average(leaf) or self._is_written_from_others(leaf))

    def is_average(self, leaf: int) -> bool:
        """Whether torch's own averaging of weights writes a leaf: no gradient is needed for that."""
        return self._index.storage_at(leaf, NONE) in self._averaged

    @cached_property
    def _averaged(self) -> frozenset[int]:
        """The memory that ``AveragedModel.update_parameters`` wrote more than the copies of its first call.

        It writes through views, which have the version of the weights that it reads, too, from their birth.
        """
        made_at = self._index.recording.tensors.column("op")
        return frozenset(
            self._index.storage_at(tensor, op)
            for op, tensor, before, _ in all_writes(self._index)
            if op < self._index.op_count
            and self._index.func(op).endswith(_AVERAGES)
            and (before or made_at[tensor] != op)
        )

    def _is_written_from_others(self, leaf: int) -> bool:
        own = self._index.storage_at(leaf, self._index.op_count)
        for op in self._written_on.get(own, ())[:_WRITES_TRACED]:
            for taken in self._values.of(op):
                storage = self._index.storage_at(taken, op)
                if op not in self._written_on.get(storage, ()) and self._comes_from_a_leaf(taken, own, op):
                    return True
        return False

    def _comes_from_a_leaf(self, tensor: int, own: int, op: int) -> bool:
        """Whether values were made from a leaf that requires grad and lies on other memory, or lie on its memory."""
        storage = self._index.storage_at(tensor, op)
        if storage in self._storages_of_leaves:
            return True
        behind = self._flow.origins(tensor, op)
        return any(self._index.is_leaf_with_grad(one, op) and self._index.storage_at(one, op) != own for one in behind)

    def _is_copy_without_gradients(self, leaf: int) -> bool:
        made = self._copied_at.get(self._index.storage_at(leaf, NONE))
        flags, used_at = self._index.recording.ops.column("flags"), self._flow.uses_of(leaf, self._index.op_count)
        return made is not None and all(flags[op] & (GRAD | INFERENCE) != GRAD for op in used_at if op != made)

    @cached_property
    def _stepped(self) -> frozenset[int]:
        """Tensors that a step of an optimizer wrote."""
        index = self._index
        return frozenset(tensor for op, tensor, *_ in all_writes(index) if op < index.op_count and is_step(index, op))

    @cached_property
    def _written_on(self) -> dict[int, list[int]]:
        """For each memory block, the ops that wrote into it, in order."""
        written: dict[int, list[int]] = {}
        for op, tensor, _, _ in all_writes(self._index):
            if op < self._index.op_count:
                written.setdefault(self._index.storage_at(tensor, op), []).append(op)
        return written

    @cached_property
    def _copied_at(self) -> dict[int, int]:
        """For each memory block that ``copy.deepcopy`` gave a tensor: the op. The parameter on it is seen when used."""
        tensors = self._index.recording.tensors
        columns = (tensors.column(name) for name in ("op", "flags", "storage"))
        return {
            storage: op
            for op, flags, storage in zip(*columns, strict=True)
            if storage >= 0 and not flags & EXTERNAL and self._index.func(op).endswith("__deepcopy__")
        }

    @cached_property
    def _storages_of_leaves(self) -> frozenset[int]:
        """Memory blocks on which a leaf that requires grad lies."""
        count = self._index.op_count
        return frozenset(
            storage
            for tensor in range(len(self._index.recording.tensors))
            if self._index.is_leaf_with_grad(tensor, count) and (storage := self._index.storage_at(tensor, count)) >= 0
        )
