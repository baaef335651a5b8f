"""Where autograd lost track: ops with an input that required grad and no output that does."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.tracking.grad_regions import GradRegions
from gradscope.analysis.facts.tracking.reentrant_checkpoints import ReentrantCheckpoints
from gradscope.analysis.facts.tracking.values_taken import ValuesTaken
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import CutKind
from gradscope.frames.whose_file import package_of
from gradscope.recording import NONE
from gradscope.recording.flags import BELOW, CUT_VIEW, EXTERNAL, GRAD, INFERENCE, NO_STORAGE, REQUIRES_GRAD
from gradscope.recording.rows import OpKind

_NEVER_A_CUT = frozenset((OpKind.BACKWARD, OpKind.GRAD, OpKind.READ_GRAD, OpKind.STEP, OpKind.MODE))
_DATA = "Tensor.data.__get__"
_COPIES = "__deepcopy__"
"""What gives a new leaf in any mode, as torch's own Python does; of what is no leaf it makes no copy."""
_BY_FUNCTION: dict[str, CutKind] = {
    "detach": "detach",
    "detach_": "detach",
    "detach_copy": "detach",
    "data": "data",
    "tensor": "new_tensor",
    "as_tensor": "new_tensor",
    "asarray": "new_tensor",
    "new_tensor": "new_tensor",
    "Parameter": "new_tensor",
    "requires_grad_": "requires_grad_false",
    "requires_grad": "requires_grad_false",
}


_WRITES = ("__setitem__", "copy_", "index_put_", "scatter_", "index_copy_", "masked_scatter_", "index_add_")
_WITHOUT_GRADIENT = ("int", "uint", "bool")


class Integers(NamedTuple):
    """Memory of integers or booleans."""

    made: int
    """The op that made it."""
    dtype: str


CutKey = tuple[int, int, int, int]
"""The statement, function, modes and span of a cut."""


@dataclass(eq=False, repr=False)
class CutGroup:
    """Cuts of one kind by one function at one place of a statement."""

    key: CutKey
    statement: int
    kind: CutKind
    func: int
    first_op: int
    last_op: int
    count: int


class Cuts:
    """Every cut of a recording: by op, and grouped by place."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._values = ValuesTaken(index)
        self.regions = GradRegions(index)
        self.reentrant = ReentrantCheckpoints(index)
        self._of_some = set[int]()

    @cached_property
    def is_cut(self) -> bytearray:
        """1 for each op that is a cut (values that left torch included)."""
        index, recording = self._index, self._index.recording
        tracked = self._ops_with_tracked(index.uses.keys, index.uses.values)
        lost = bytearray(index.op_count)
        kinds = recording.ops.column("kind")
        skipped, shape_only = bytes(kind in _NEVER_A_CUT for kind in range(256)), self._values.by_shape_only
        funcs = recording.ops.column("func")
        tensors, by_function = recording.tensors, index.given_by_functions
        for tensor, (op, flags) in enumerate(zip(tensors.column("op"), tensors.column("flags"), strict=True)):
            if not flags & EXTERNAL and tracked[op]:
                is_tracked = (flags & REQUIRES_GRAD and flags & CUT_VIEW != CUT_VIEW) or tensor in by_function
                is_tracked = is_tracked or (bool(flags & NO_STORAGE) and op in self._ops_with_nodes)
                lost[op] |= 2 if is_tracked else 1
        self._of_some.update(op for op, flag in enumerate(lost) if flag == 3)
        for op, flag in enumerate(lost):
            lost[op] = flag == 1 and not skipped[kinds[op]] and funcs[op] not in shape_only
        self._drop_harmless_groups(lost)
        self._drop_unused_looks(lost)
        for op in self._index.creating_graphs:  # (a gradient that is not tracked then is a constant: that of a sum)
            lost[op] = 0
        for op in self._index.of_kind(OpKind.EXPORT):
            lost[op] = tracked[op]
        for rows in index.changed_ops.values():
            for row in rows:
                change = recording.changes[row]
                if change.before and not change.after:
                    lost[change.op] = 1
        self._drop_inside_functions(lost)
        return lost

    @cached_property
    def _ops_with_nodes(self) -> frozenset[int]:
        """Ops that made nodes: what a batch of vmap's wraps has one, and the batch itself has none."""
        return frozenset(self._index.recording.nodes.column("op"))

    def _drop_inside_functions(self, lost: bytearray) -> None:
        """Take out what the forward of a custom Function ran, always under no_grad: its backward stands for that."""
        for op in (op for op, cut in enumerate(lost) if cut):
            if self.regions.is_inside_function(op):
                lost[op] = 0

    def _drop_unused_looks(self, lost: bytearray) -> None:
        """Take out where torch's own code looked at ``.data`` and used nothing of it: its dtype was wanted."""
        ops, index = self._index.recording.ops, self._index
        looks = {func for func in set(ops.column("func")) if index.recording.text(func) == _DATA}
        for op, (func, flags) in enumerate(zip(ops.column("func"), ops.column("flags"), strict=True)) if looks else ():
            if lost[op] and func in looks and flags & BELOW:
                lost[op] = any(len(index.users.of(made)) for made in index.tensors_made(op))

    def _drop_harmless_groups(self, lost: bytearray) -> None:
        """Take out calls into torch's own Python that say nothing of their inputs' gradients.

        Left are those that switched grad mode off and of whose results a call elsewhere took one: not the temporaries
        of a check (``Normal.__init__``) or of an optimizer's step, nor copies of leaves, which no mode cuts off.
        """
        index, ops = self._index, self._index.recording.ops
        modes, spans = ops.column("flags"), ops.column("span")
        groups = {op for op in index.of_kind(OpKind.GROUP) if lost[op]}
        harmless = set(groups)
        doubtful = {op for op in groups if not index.func(op).endswith(_COPIES)}
        made_at = index.recording.tensors.column("op")
        for op, tensor in zip(index.uses.keys, index.uses.values, strict=True) if groups else ():
            made = made_at[tensor]
            if made in doubtful and modes[made] & (GRAD | INFERENCE) != GRAD and spans[made] != spans[op]:
                harmless.discard(made)
        for op in harmless:
            lost[op] = 0

    def _ops_with_tracked(self, ops: array[int], tensors: array[int]) -> bytearray:
        """1 for each op of which one of the tensors required grad when it was called."""
        index = self._index
        required = bytearray(flags & 1 for flags in index.recording.tensors.column("flags"))
        for tensor in index.changed_ops:
            required[tensor] = 2
        tracked, made_at = bytearray(index.op_count), index.recording.tensors.column("op")
        for op, tensor in zip(ops, tensors, strict=True):
            if required[tensor] and (required[tensor] == 1 or index.requires_grad(tensor, op)):
                # (what a call into torch's own Python made itself, a module's parameters, did not go into it)
                tracked[op] |= made_at[tensor] != op or not index.is_made_inside(tensor)
        if by_place := self._values.by_second_input | self._values.by_first_input:
            for op in (op for op, func in enumerate(index.recording.ops.column("func")) if func in by_place):
                tracked[op] = any(index.requires_grad(tensor, op) for tensor in self._values.of(op))
        return tracked

    def kind(self, op: int) -> CutKind:
        """Why an op that is a cut is one."""
        index = self._index
        row = index.recording.ops[op]
        if row.kind == OpKind.EXPORT:
            return "export"
        name = index.recording.text(row.func).removesuffix(".__get__").removesuffix(".__set__").rpartition(".")[2]
        if name in _BY_FUNCTION:
            return _BY_FUNCTION[name]
        is_copy = name == _COPIES
        if row.flags & INFERENCE and not is_copy:
            return "inference_mode"
        if not row.flags & GRAD and not is_copy:
            return "no_grad"
        made = index.tensors_made(op)
        if op in self._of_some:
            made = [tensor for tensor in made if not index.requires_grad(tensor, index.op_count)]
        is_integer = made and not any(index.is_floating(tensor) for tensor in made)
        return "not_differentiable" if is_integer else "no_gradient_defined"

    def cause(self, op: int) -> str:
        """A cut in words: ``Tensor.detach``, ``no_grad (Tensor.mul)``."""
        kind, func = self.kind(op), self._index.func(op)
        if kind == "export":
            return f"{func} (the values left torch)"
        if kind in ("no_grad", "inference_mode"):
            return f"{kind} ({func})"
        if kind == "not_differentiable":
            return f"{func} (an integer or boolean result has no gradient)"
        if kind == "data":
            return ".data"
        if self._index.recording.ops.column("kind")[op] == OpKind.GRAD:
            return f"{func} (without create_graph)"
        if (memory := self.integers_written(op)) is not None:
            return f"{func} into memory of {memory.dtype}, made at line {self._index.op_line(memory.made)}"
        return func.removesuffix(".__get__").removesuffix(".__set__")

    def where(self, op: int) -> str:
        """A cut in words, with the line to change: ``line 3 by Tensor.detach``; in a region, what opened that."""
        checkpoint = self.reentrant.around(op)
        if checkpoint is not None and checkpoint.span >= 0:
            line, told = self._index.span_line(checkpoint.span), self.reentrant.told_at(checkpoint)
            reentrant = "use_reentrant=True" + (f" (line {self._index.line(*told)})" if told is not None else "")
            return f"line {line} by checkpoint with {reentrant}, since no tensor that it is given requires grad"
        region = self.regions.describe(op) if self.kind(op) in ("no_grad", "inference_mode") else None
        if region is None:
            return f"line {self._index.op_line(op)} by {self.cause(op)}{self._in_library(op)}"
        if region.is_written:
            return f"line {region.line} by {region.mode}"
        return f"line {region.line}, whose call ran under {region.mode}"

    def _in_library(self, op: int) -> str:
        """The function of a library that called an op, to stand behind the user's line; empty where none did."""
        inner = self._index.recording.ops.column("inner")[op]
        if inner < 0:
            return ""
        place = self._index.place(self._index.statement_of_span[inner])
        return f" in {place.function.partition('.<')[0]} of {package_of(place.file)}"

    def line_to_change(self, op: int) -> int:
        """The op at whose line a cut would be taken out: what opened the region that it lies in, or the cut itself.

        Of a write into integers that of what made them with that dtype.
        """
        region = self.regions.describe(op) if self.kind(op) in ("no_grad", "inference_mode") else None
        if region is not None:
            return region.op
        memory = self.integers_written(op)
        return op if memory is None else memory.made

    def integers_written(self, op: int) -> Integers | None:
        """The memory of integers or booleans that a call wrote something with a graph into; None where it did not."""
        index, recording = self._index, self._index.recording
        if self.kind(op) != "no_gradient_defined" or not index.func(op).endswith(_WRITES) or not index.uses.of(op):
            return None
        written = index.uses.of(op)[0]
        dtype = recording.text(recording.layouts[index.layout_at(written, op)].dtype)
        storage = index.storage_at(written, op)
        if not dtype.startswith(_WITHOUT_GRADIENT) or storage < 0 or recording.storages.column("external")[storage]:
            return None
        made = recording.storages.column("op")[storage]
        return Integers(made, dtype) if made < op else None

    @cached_property
    def groups(self) -> list[CutGroup]:
        """Cuts by place, function and kind, in the order in which they first happened."""
        return self._grouped(self.all)

    def grouped_with_some(self, found: Iterable[int]) -> list[CutGroup]:
        """The groups with the cuts that only a part of a result is: those that were found to be, and chosen ones."""
        more = self.of_chosen | {op for op in found if op in self._of_some and not self.is_cut[op]}
        return self._grouped(sorted({*self.all, *more})) if more else self.groups

    def _grouped(self, ops: Iterable[int]) -> list[CutGroup]:
        index = self._index
        groups: dict[CutKey, CutGroup] = {}
        for op in ops:
            key = self.key_of(op)
            group = groups.get(key)
            if group is None:
                groups[key] = CutGroup(key, key[0], self.kind(op), key[1], op, op, index.weights[op])
            else:
                group.last_op = op
                group.count += index.weights[op]
        return list(groups.values())

    @cached_property
    def of_chosen(self) -> frozenset[int]:
        """Ops that gave something with a graph and something without, of which only the latter was used: the indices
        of ``topk``, ``sort``, ``max(dim)``.
        """
        index, is_cut, used = self._index, self.is_cut, self._index.users
        found = set[int]()
        for op in self._of_some:
            made = index.tensors_made(op)
            tracked = [tensor for tensor in made if index.requires_grad(tensor, index.op_count)]
            others = [tensor for tensor in made if tensor not in tracked]
            is_used = any(len(used.of(tensor)) for tensor in others)
            if not is_cut[op] and is_used and not any(len(used.of(tensor)) for tensor in tracked):
                found.add(op)
        return frozenset(found)

    @property
    def all(self) -> Iterator[int]:
        """The ops that are cuts, in order."""
        return (op for op, cut in enumerate(self.is_cut) if cut)

    def key_of(self, op: int) -> CutKey:
        """By what cuts are grouped: one line may cut off several tensors by calls of one function."""
        ops = self._index.recording.ops
        modes = ops.column("flags")[op] & (GRAD | INFERENCE)
        return self._index.op_statement[op], ops.column("func")[op], modes, ops.column("span")[op]

    def input_of(self, op: int) -> int:
        """The first input of a cut that required grad; NONE where the op's inputs are unknown."""
        for tensor in self._values.of(op):
            if self._index.requires_grad(tensor, op):
                return tensor
        return NONE

    def output_of(self, op: int) -> int:
        """The tensor that a cut gave; NONE for values that left torch."""
        made = self._index.tensors_made(op)
        if op in self._of_some:
            made = [tensor for tensor in made if not self._index.requires_grad(tensor, self._index.op_count)]
        if made:
            return made[0]
        results = self._index.results.of(op)
        return results[0] if results else NONE
