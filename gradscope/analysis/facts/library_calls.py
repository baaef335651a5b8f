"""What libraries do for themselves in calls of the user's lines, and what they hand to the user.

An op that a library's code called has an ``inner`` place beside the user's line. What it makes is the library's own as
long as no name that was seen holds it and no call of the user's own code takes it: constants, checks, detached copies
for a log, the state of a constraint.
"""

from __future__ import annotations

from functools import cached_property
from itertools import compress, count

from gradscope.analysis.facts.gradients import Gradients
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.index import Index
from gradscope.recording.flags import EXTERNAL, PARAMETER, REQUIRES_GRAD
from gradscope.recording.rows import BindingKind

_FOLLOWED = 64
"""Tensors that a library made of what it cut off that are looked at."""
_MODES = ("no_grad", "inference_mode")
_PARAMETER_SEEN = EXTERNAL | PARAMETER


class LibraryCalls:
    """Tells a library's own doings from what concerns the user.

    Args:
        index: The recording.
        names: Names of tensors.
        gradients: What backward passes gave: a cut that kept a gradient away concerns the user, wherever it was made.
        cuts: Cuts of the graph.
    """

    def __init__(self, index: Index, names: BestNames, gradients: Gradients, cuts: Cuts) -> None:
        self._index = index
        self._names = names
        self._gradients = gradients
        self._cuts = cuts

    @cached_property
    def makes(self) -> bytearray:
        """1 for each op that a library's code called."""
        return bytearray(inner >= 0 for inner in self._index.recording.ops.column("inner"))

    @cached_property
    def unclaimed(self) -> bytearray:
        """1 for each tensor that a library made and that neither a name nor a call of the user's took."""
        index, makes, best, buffers = self._index, self.makes, self._names.best, self._buffers
        tensors, limit = index.recording.tensors, index.op_count
        columns = (tensors.column(name) for name in ("op", "flags"))
        unclaimed = bytearray(
            op < limit and makes[op] and not flags & EXTERNAL and (best[tensor] < 0 or tensor in buffers)
            for tensor, (op, flags) in enumerate(zip(*columns, strict=True))
        )
        if any(unclaimed):
            for op, tensor in zip(index.uses.keys, index.uses.values, strict=True):
                if unclaimed[tensor] and not makes[op]:
                    unclaimed[tensor] = 0
        return unclaimed

    @cached_property
    def _buffers(self) -> set[int]:
        """Tensors known only as what a module holds and does not train: angles, the bounds of a constraint."""
        recording = self._index.recording
        flags, kept, others = recording.tensors.column("flags"), set[int](), set[int]()
        columns = (recording.bindings.column(name) for name in ("tensor", "kind", "name"))
        for tensor, kind, name in zip(*columns, strict=True):
            is_held = kind == BindingKind.MEMBER and not recording.text(name).endswith("]")
            (kept if is_held and not flags[tensor] & (PARAMETER | REQUIRES_GRAD) else others).add(tensor)
        return kept - others

    @cached_property
    def own(self) -> bytearray:
        """1 for each tensor that a library made for itself: unclaimed, and not what a named parameter was made of.

        A layer's ``Parameter(torch.zeros(3))`` is what the user trains.
        """
        own, recording = self.unclaimed[:], self._index.recording
        storages, made_at = recording.tensors.column("storage"), recording.tensors.column("op")
        allocated_at = recording.storages.column("op")
        for tensor in compress(count(), self.unclaimed):
            storage = storages[tensor]
            own[tensor] = storage not in self._of_parameters or allocated_at[storage] != made_at[tensor]
        return own

    @cached_property
    def wrapped(self) -> bytearray:
        """1 for each tensor that was made on memory of its own of which a named parameter was made then."""
        tensors, storages = self._index.recording.tensors, self._index.recording.storages
        allocated_at = storages.column("op")
        columns = (tensors.column(name) for name in ("op", "storage", "flags"))
        return bytearray(
            storage in self._of_parameters and allocated_at[storage] == op and not flags & EXTERNAL
            for op, storage, flags in zip(*columns, strict=True)
        )

    @cached_property
    def _of_parameters(self) -> set[int]:
        """The memory of parameters that have a name and were seen from outside only."""
        tensors, best = self._index.recording.tensors, self._names.best
        storages = tensors.column("storage")
        return {
            storages[tensor]
            for tensor, flags in enumerate(tensors.column("flags"))
            if flags & _PARAMETER_SEEN == _PARAMETER_SEEN and best[tensor] >= 0
        }

    def is_own_cut(self, op: int) -> bool:
        """Whether a library cut the graph for itself: nothing of that comes out of it without a graph, and no mode that
        the user's code set did it.
        """
        if not self.makes[op] or self._place_of(op) in self._did_harm:
            return False
        output = self._cuts.output_of(op)
        if output >= 0 and self._comes_out(output):
            return False
        if self._cuts.kind(op) not in _MODES:
            return True
        region = self._cuts.regions.describe(op)
        return region is None or not region.is_written

    @cached_property
    def _did_harm(self) -> set[tuple[int, int]]:
        """The cuts that kept a gradient from a leaf, or all of it from a root."""
        return {self._place_of(op) for op in self._gradients.cuts_on_path}

    def _place_of(self, op: int) -> tuple[int, int]:
        return self._index.op_statement[op], self._index.recording.ops.column("func")[op]

    def _comes_out(self, tensor: int) -> bool:
        """Whether what a cut gave, or what the library made of it, is the user's, without a graph."""
        index, todo, seen = self._index, [tensor], {tensor}
        if not self.unclaimed[tensor]:
            return True
        while todo and len(seen) < _FOLLOWED:
            for op in index.users.of(todo.pop()):
                for made in index.tensors_made(op):
                    if made in seen:
                        continue
                    seen.add(made)
                    if self.unclaimed[made]:
                        todo.append(made)
                    elif index.is_floating(made) and not index.requires_grad(made, op):
                        return True
        return False
