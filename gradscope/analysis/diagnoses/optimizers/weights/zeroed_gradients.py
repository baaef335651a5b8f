"""Weight decay that changes what a program holds still by setting its gradient to zero."""

from __future__ import annotations

import ast
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.weights.decayed_by_zero_factor import decayed_by_zero_factor
from gradscope.analysis.diagnoses.optimizers.weights.zeroed_by_hook import decayed_past_hooks
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.stacked_writes import is_drawing
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.facts.passes.gradient_lives import last_before
from gradscope.analysis.facts.writes import is_step, writes_by_program
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import GradOutcome, OpKind

STEPS = 2
"""Steps that followed such a write from which on it is reported."""

_FILLS = ("Tensor.masked_fill_", "Tensor.index_fill_", "Tensor.fill_")
_PUTS = ("Tensor.__setitem__", "Tensor.copy_", "Tensor.grad.__set__", "Tensor.data.__set__")
_REPLACES = ("Tensor.grad.__set__", "Tensor.data.__set__")
_MASKS = ("Tensor.mul", "Tensor.where", "Tensor.masked_fill")
_ZEROS, _ONES = ("torch.zeros", "torch.zeros_like", "Tensor.new_zeros"), ("torch.ones", "torch.ones_like")
_CONVERSIONS = ("Tensor.float", "Tensor.to", "Tensor.type", "Tensor.type_as", "Tensor.half", "Tensor.double")
_VIEWS = (*_CONVERSIONS, "Tensor.unsqueeze", "Tensor.view", "Tensor.reshape", "Tensor.expand", "Tensor.__getitem__")
_OF_MASKS = frozenset(_VIEWS) | {
    f"Tensor.{name}"
    for names in ("__invert__ logical_not bitwise_not rsub __rsub__ clone bool", "__eq__ __ne__ eq ne gt lt ge le")
    for name in names.split()
}
"""What gives a mask of a mask: ``~keep``, ``1 - keep``, ``keep == 0``."""
_CASTS = 3
_WAY = 8
"""How many calls back the making of a mask is followed."""


class _Zeroed(NamedTuple):
    """A write that set a part of a gradient to zero, and the step that took the gradient as it was then."""

    write: int
    step: int


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    decaying = [
        (one, tensor)
        for one in seen_optimizers(index, sources.events)
        for tensor in one.tensors
        if one.setting(tensor, "weight_decay") and one.setting(tensor, "lr")
    ]
    if not decaying:
        return
    yield from decayed_past_hooks(sources, decaying)
    yield from decayed_by_zero_factor(sources, decaying)
    history = _History(index)
    found: dict[tuple[int, int], list[tuple[Optimizer, int, list[_Zeroed]]]] = {}
    for optimizer, tensor in decaying:
        zeroed = history.zeroed(tensor, f"{optimizer.name}.step")
        if len(zeroed) >= STEPS and not history.is_held_otherwise(tensor, zeroed):
            key = (optimizer.made.subject, index.op_statement[zeroed[-1].step])
            found.setdefault(key, []).append((optimizer, tensor, zeroed))
    for group in found.values():
        optimizer, first, zeroed = group[0]
        tensors = [tensor for _, tensor, _ in group]
        names, step = sources.listed([sources.names.of(tensor) for tensor in tensors]), zeroed[-1].step
        made = [part for part in optimizer.groups if first in part.tensors][:1]
        yield sources.finding(
            f"Line {index.op_line(step)}: {index.func(step)} also changes those elements of {names} whose gradient was "
            "set to zero before",
            why=f"the {optimizer.name} of line {optimizer.line} has weight_decay="
            f"{optimizer.setting(first, 'weight_decay'):g}, which shrinks a parameter whatever its gradient is",
            op=step,
            tensors=tensors,
            causes=[cause for event in made for cause in sources.cause_of_event("set", event)],
            evidence=[Evidence("ops", one.write) for one in zeroed[-STEPS:]],
            advice="Only weight_decay=0 for them, or no gradient at all (None), leaves them as they are.",
        )


class _History:
    """What was done to parameters and their gradients."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._passes: dict[int, list[int]] = {}
        self._written: dict[int, list[int]] = {}
        rows = index.recording.gradients
        self._owner: dict[int, int] = {}
        columns = (rows.column(name) for name in ("op", "tensor", "grad", "outcome"))
        for op, tensor, gradient, outcome in zip(*columns, strict=True):
            if outcome in (GradOutcome.CREATED, GradOutcome.ACCUMULATED):
                self._passes.setdefault(tensor, []).append(op)
                if gradient >= 0:
                    self._owner[index.storage_at(gradient, op)] = tensor
        for op, tensor, _, _ in writes_by_program(index):
            self._written.setdefault(index.storage_at(tensor, op), []).append(op)
        self._zeroing: dict[int, list[int]] = {}
        for storage, ops in self._written.items():
            if storage in self._owner:
                self._zeroing.setdefault(self._owner[storage], []).extend(filter(self._sets_zeros, ops))
        for op, tensor in self._replaced():
            self._zeroing.setdefault(tensor, []).append(op)

    def zeroed(self, tensor: int, func: str) -> list[_Zeroed]:
        """The writes after a backward pass, of which the next step with the tensor took the gradient."""
        index, passes = self._index, self._passes.get(tensor, [])
        steps = [op for op in self._writes(tensor) if is_step(index, op) and index.func(op) == func]
        gone, found = index.cleared_at.get(tensor, []), []
        for op in sorted(self._zeroing.get(tensor, ())):
            at = bisect_left(steps, op)
            last_pass = last_before(passes, op)
            if at == len(steps) or last_pass != last_before(passes, steps[at]):
                continue
            if last_pass > max(last_before(steps, op), last_before(gone, steps[at])):
                found.append(_Zeroed(op, steps[at]))
        return found

    def is_held_otherwise(self, tensor: int, zeroed: list[_Zeroed]) -> bool:
        """Whether the program writes the parameter too, or made it zero at the same places: then decay does no harm."""
        index = self._index
        own = [op for op in self._writes(tensor) if not is_step(index, op)]
        if any(op > zeroed[0].step for op in own):
            return True
        parts = {part for one in zeroed for part in self._parts(one.write)}
        on = index.storage_at(tensor, zeroed[0].step)
        if any("pad" in part.lower() or part == "0" for part in parts if isinstance(part, str)):
            return True
        tensors = [part for part in parts if isinstance(part, int)]
        if any(self._is_from(part, on) or self._is_put_on(part, tensor) for part in tensors):
            return True
        for before, one in pairwise(zeroed):
            picked = (part for part in self._parts(one.write) if isinstance(part, int))
            if any(self._is_chosen_anew(part, tensor, before.write) for part in picked):
                return True
        return any(not parts.isdisjoint(self._parts(op)) for op in own)

    def _writes(self, tensor: int) -> list[int]:
        index = self._index
        storages = dict.fromkeys((index.storage_at(tensor, NONE), *(s for _, s in index.moves.get(tensor, ()))))
        return sorted({op for storage in storages for op in self._written.get(storage, ())})

    def _parts(self, op: int) -> set[int | str]:
        """What a write picks elements by: tensors that it takes beside the one that it writes, and an index's text."""
        index = self._index
        target = _target(index.op_place(op).source)
        taken = list(index.uses.of(op))[1:]
        beside: set[int | str] = set(taken)
        if taken and index.method(op) in _PUTS and not _assigns_zero(index.op_place(op).source):
            beside = {*taken[:-1], *self._masks_of(taken[-1], op)}
        return beside | {target} if target else beside

    def _masks_of(self, value: int, op: int) -> set[int]:
        """What picks the elements of a value that was computed from a gradient."""
        index, made = self._index, self._index.made_by(value)
        if not 0 <= made < op or index.method(made) not in _MASKS:
            return set()
        return {one for one in index.uses.of(made) if self._is_mask(one, made)}

    def _is_put_on(self, part: int, tensor: int) -> bool:
        """Whether what elements are picked by, or is read off the same mask, meets the parameter itself as well.

        A weight that is multiplied by the mask, once or in each forward, is zero there or counts for nothing.
        """
        index = self._index
        storages = {index.storage_at(tensor, NONE), *(storage for _, storage in index.moves.get(tensor, ()))}
        masks = {part}
        for _ in range(_WAY):
            made = index.made_by(part)
            if not 0 <= made < index.op_count or index.method(made) not in _OF_MASKS or not index.uses.of(made):
                break
            part = index.uses.of(made)[0]
            masks.add(part)
        for _ in range(_CASTS):
            casts = [op for one in masks for op in index.users.of(one) if index.method(op) in _OF_MASKS]
            masks |= {one for op in casts for one in index.tensors_made(op)}
        return any(
            index.storage_at(other, op) in storages
            for one in masks
            for op in index.users.of(one)
            for other in index.uses.of(op)
        )

    def _is_chosen_anew(self, part: int, tensor: int, since: int) -> bool:
        """Whether what elements are picked by was computed from the gradient, or drawn, since the time before.

        A mask that was computed once, of an earlier pass, picks the same elements each time.
        """
        index, level = self._index, {part}
        for _ in range(_WAY):
            if self.is_gradient_of(level, tensor):
                return True
            made = [op for one in level if since < (op := index.made_by(one)) < index.op_count]
            if any(is_drawing(index, op) for op in made):
                return True
            level = {use for op in made if not index.func(op).endswith("_like") for use in index.uses.of(op)}
        return False

    def is_gradient_of(self, tensors: Iterable[int], leaf: int) -> bool:
        """Whether one of some tensors lies where a gradient of a leaf does."""
        return any(self._owner.get(self._index.storage_at(one, self._index.op_count)) == leaf for one in tensors)

    def _replaced(self) -> Iterator[tuple[int, int]]:
        """Where a gradient was replaced by its own values, of which some are zeros now: ``p.grad = p.grad * mask``."""
        index = self._index
        for op in index.of_kind(OpKind.SET):
            taken = list(index.uses.of(op))
            if index.func(op) not in _REPLACES or len(taken) < 2:
                continue
            own = index.storage_at(taken[0], op - 1)
            leaf = taken[0] if index.func(op) == _REPLACES[0] else self._owner.get(own, NONE)
            if leaf >= 0 and self._holds_zeros(taken[1], op) and self._is_computed_from(taken[1], op, leaf):
                yield op, leaf

    def _is_computed_from(self, value: int, op: int, leaf: int) -> bool:
        index, level = self._index, {value}
        for _ in range(3):
            if self.is_gradient_of(level, leaf):
                return True
            made = {made for one in level if 0 <= (made := index.made_by(one)) < op}
            made |= {at for one in level for at in self._written.get(index.storage_at(one, op), ()) if at < op}
            level = {use for one in made for use in index.uses.of(one)}
        return False

    def _holds_zeros(self, value: int, op: int) -> bool:
        """Whether the program made elements of a value zero: all of them, or those that a mask picks."""
        index = self._index
        for _ in range(_WAY):
            made = index.made_by(value)
            if not 0 <= made < op:
                return False
            written = [at for at in self._written.get(index.storage_at(value, op), ()) if made < at < op]
            if index.func(made) in _ZEROS:
                return all(map(self._writes_a_part, written))
            if any(map(self._sets_zeros, written)):
                return True
            taken, name = list(index.uses.of(made)), index.method(made)
            if name in _MASKS:
                return self._picks(made, name, taken)
            if name not in (*_VIEWS, "Tensor.clone", "Tensor.data.__get__", "Tensor.detach") or not taken:
                return False
            value = taken[0]
        return False

    def _writes_a_part(self, op: int) -> bool:
        """Whether a call writes elements that an index picks, and leaves the others as they are."""
        func = self._index.method(op)
        target = _target(self._index.op_place(op).source)
        return func == "Tensor.index_copy_" or (func == "Tensor.__setitem__" and target not in ("", ":", "..."))

    def _picks(self, op: int, name: str, taken: list[int]) -> bool:
        """Whether a call multiplies by a mask, or puts zeros where one is true."""
        if name == "Tensor.mul":
            return any(self._is_mask(one, op) for one in taken)
        zeros = any(self._index.func(self._index.made_by(one)) in _ZEROS for one in taken)
        return zeros or _has_zero(self._index.span_source(op, exact=True))

    def _sets_zeros(self, op: int) -> bool:
        """Whether an op is a call of the program's that is known to set elements to zero."""
        index = self._index
        if op >= index.op_count or index.recording.ops.column("kind")[op] != OpKind.CALL:
            return False
        func = index.method(op)
        if func == "Tensor.zero_":
            return True
        if func == "Tensor.__setitem__" and _assigns_zero(index.op_place(op).source):
            return True
        if func in _PUTS:
            value = list(index.uses.of(op))[1:][-1:]
            is_index = func == "Tensor.__setitem__" and bool(value) and self._is_mask(value[0], op)
            return bool(value) and not is_index and self._holds_zeros(value[0], op)
        if func in _FILLS:
            return _fills_with_zero(index.op_place(op).source) or _has_zero(index.span_source(op, exact=True))
        if func == "Tensor.mul_" and len(index.uses.of(op)) == 1:
            return _has_zero(index.span_source(op, exact=True))
        if func == "Tensor.mul_":
            return any(self._is_mask(tensor, op) for tensor in index.uses.of(op)[1:])
        return False

    def _is_mask(self, tensor: int, op: int) -> bool:
        """Whether a factor holds zeros: truth values, zeros with some written, ones with some written."""
        index, tensors = self._index, self._index.recording.tensors
        for _ in range(_WAY):
            if index.is_bool(tensor):
                return True
            made_by = tensors.column("op")[tensor]
            if tensors.column("flags")[tensor] & EXTERNAL or made_by >= index.op_count:
                return False
            is_written = any(made_by < one < op for one in self._written.get(index.storage_at(tensor, op), ()))
            if index.func(made_by) in (*_ZEROS, *_ONES):
                return is_written
            if index.method(made_by) not in _VIEWS or not index.uses.of(made_by):
                return False
            tensor = index.uses.of(made_by)[0]
        return False

    def _is_from(self, tensor: int, storage: int) -> bool:
        """Whether a tensor was computed from what lies on a storage (``weight != 0``)."""
        index, tensors = self._index, self._index.recording.tensors
        seen, level, kinds = {tensor}, [tensor], index.recording.ops.column("kind")
        for _ in range(_WAY):
            if any(index.storage_at(one, tensors.column("op")[one]) == storage for one in level):
                return True
            made = [tensors.column("op")[one] for one in level if not tensors.column("flags")[one] & EXTERNAL]
            taken = [op for op in made if op < index.op_count and not index.func(op).endswith("_like")]
            # (a gradient is computed from the weight, and tells nothing of what is zero in it)
            taken = [op for op in taken if kinds[op] not in (OpKind.BACKWARD, OpKind.GRAD)]
            level = [use for op in taken for use in index.uses.of(op) if use not in seen]
            seen.update(level)
        return False


def _statement(source: str) -> ast.stmt | None:
    lines = source.strip().removesuffix(":")
    try:
        body = ast.parse(lines).body
    except SyntaxError:
        return None
    return body[0].body[0] if body and isinstance(body[0], (ast.For, ast.If)) else body[0] if body else None


def _is_zero(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and type(value.value) in (int, float) and value.value == 0


def _target(source: str) -> str:
    """The text of the index in ``x[index] = value``; empty for anything else."""
    found = _statement(source)
    if isinstance(found, ast.Assign) and isinstance(found.targets[0], ast.Subscript):
        return ast.unparse(found.targets[0].slice)
    return ""


def _has_zero(source: str) -> bool:
    """Whether a call, or ``x *= 0``, is given zero as it is."""
    found = _statement(source)
    if isinstance(found, ast.AugAssign):
        return _is_zero(found.value)
    call = found.value if isinstance(found, ast.Expr) else None
    return isinstance(call, ast.Call) and any(map(_is_zero, call.args))


def _assigns_zero(source: str) -> bool:
    found = _statement(source)
    return isinstance(found, ast.Assign) and isinstance(found.targets[0], ast.Subscript) and _is_zero(found.value)


def _fills_with_zero(source: str) -> bool:
    found = _statement(source)
    call = found.value if isinstance(found, ast.Expr) else None
    return isinstance(call, ast.Call) and bool(call.args) and _is_zero(call.args[-1])


DIAGNOSIS = Diagnosis(
    code="decayed-though-zeroed",
    title="weight decay changed parameters whose gradient was set to zero",
    severity="warning",
    explanation=Explanation(
        meaning="""Between backward and the step, or in a hook, the program set elements of a gradient to zero, and the
            optimizer that made the step has weight decay. Or all that a layer adds to the loss is multiplied by a
            weight that is 0 for the time being, which gives the layer a gradient of zeros.""",
        reason="""A zero gradient is still a gradient: the step applies weight decay to all elements of a parameter
            that has one, so that those with gradient zero shrink a little in every step.""",
        remedy="""Give such parameters a group of their own with weight_decay=0, or write the old values back after
            the step. A parameter whose .grad is None is skipped whole.""",
    ),
    example=Example(
        shows="""\
import torch

table = torch.nn.Parameter(torch.ones(4, 2))
keep = torch.tensor([True, True, True, False])
optimizer = torch.optim.AdamW([table], lr=0.1, weight_decay=0.1)
for step in range(3):
    optimizer.zero_grad()
    table.sum().backward()
    table.grad[keep] = 0.0
    optimizer.step()
""",
        instead_of="optimizer = torch.optim.AdamW([table], lr=0.1, weight_decay=0.1)",
        silent="optimizer = torch.optim.AdamW([table], lr=0.1, weight_decay=0.0)",
    ),
    find=_find,
)
