"""Sums of gradients of which a part carries the loss scale and a part does not: a step takes both for the same.

What lacks the scale was added to gradients that carry it; or more gradients that carry it were, after a division.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.optimizers import seen_optimizers
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, last_before, ops_between
from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, GRADIENT, PARAMETER
from gradscope.recording.rows import EventKind, Field, OpKind

_LARGEST = 10.0
"""The largest number of Python's own by which a term may be multiplied that is surely not the scale."""

_ADDS = frozenset(
    f"{of}.{name}"
    for of, names in (
        ("Tensor", "add add_ sub sub_ addcmul addcmul_ addcdiv addcdiv_ __add__ __iadd__ __radd__ __sub__ __isub__"),
        ("torch", "add sub addcmul addcdiv _foreach_add _foreach_add_ _foreach_sub _foreach_sub_"),
    )
    for name in names.split()
)
_COPIES = frozenset(("Tensor.copy_", "Tensor.clone", "Tensor.detach", "Tensor.data.__get__", "Tensor.to"))
_CLIPS = ("nn.utils.clip_grad", "Tensor.clamp_")
_OF_SCALERS = "amp.GradScaler."
_DEPTH = 8
"""Additions on one another of which the terms are looked for."""


class MixedScales(NamedTuple):
    """A gradient of a scaled loss, what was added to it, and the step of the scaler that took both."""

    leaf: int
    added: int
    """The op that added what lacks the scale: a call, or a backward pass."""
    scaled: int
    """A backward pass of a scaled loss that gave the rest."""
    step: Happened


class AddedAfterDivision(NamedTuple):
    """A gradient that unscale_ divided by the scale and to which a pass of a scaled loss then added, and the step."""

    leaf: int
    undone: Happened
    added: int
    """The pass (an op) that added to it."""
    step: Happened


def mixed_scales(index: Index, events: Events, flow: Flow, lives: GradientLives) -> Iterator[MixedScales]:
    """Of each gradient that a scaler's step took: the first that was added to it and lacks the scale."""
    calls = events.of(EventKind.GRAD_SCALER)
    steps = [event for event in calls if event.detail.get("call") == "step"]
    if not steps:
        return
    optimizers = {one.made.subject: one.tensors for one in seen_optimizers(index, events)}
    undone = [event for event in calls if event.detail.get("call") == "unscale_"]
    scales, terms = _Scales(index, events, flow, lives), _Terms(index, flow, lives)
    last: dict[int, int] = {}
    for step in steps:
        optimizer = step.detail.get("optimizer", NONE)
        for leaf in optimizers.get(optimizer, ()):
            began = max(last.get(leaf, NONE), last_before(lives.cleared.get(leaf, []), step.op))
            last[leaf] = step.op
            ends = [one.op for one in undone if one.op > began and one.detail.get("optimizer", NONE) == optimizer]
            until = min([*ends, step.op])  # (from there on a term is to be added without the scale)
            passes = ops_between(lives.passes.get(leaf, []), began, until)
            scaled = [op for op in passes if scales.carries(op)]
            if not scaled:
                continue
            plain = [op for op in passes if scales.lacks(op)]
            added = plain[0] if plain else next(terms.added(leaf, scaled[0], until, scales), NONE)
            if added >= 0:
                yield MixedScales(leaf, added, scaled[0], step)


class Unscaled(NamedTuple):
    """A gradient that a scaler's step divided, though none of the losses that it is of was scaled."""

    leaf: int
    passed: int
    """The last backward pass that gave it."""
    step: Happened


def unscaled_steps(index: Index, events: Events, flow: Flow, lives: GradientLives) -> Iterator[Unscaled]:
    """Of each step of a scaler the gradients that passes gave for what was not scaled, as they gave them.

    One that the program wrote, or set, may have been multiplied by hand. Where no loss at all was seen to be scaled,
    compiled code may have done it.
    """
    calls = events.of(EventKind.GRAD_SCALER)
    steps = [event for event in calls if event.detail.get("call") == "step"]
    if not steps or not any(event.detail.get("call") == "scale" and event.tensors for event in calls):
        return
    optimizers = {one.made.subject: one.tensors for one in seen_optimizers(index, events)}
    scales, terms = _Scales(index, events, flow, lives), _Terms(index, flow, lives)
    last: dict[int, int] = {}
    for step in steps:
        for leaf in optimizers.get(step.detail.get("optimizer", NONE), ()):
            began = max(last.get(leaf, NONE), last_before(lives.cleared.get(leaf, []), step.op))
            last[leaf] = step.op
            passes = ops_between(lives.passes.get(leaf, []), began, step.op)
            if passes and all(map(scales.lacks, passes)) and not terms.is_touched(leaf, began, step.op):
                yield Unscaled(leaf, passes[-1], step)


def added_after_division(
    index: Index, events: Events, flow: Flow, lives: GradientLives
) -> Iterator[AddedAfterDivision]:
    """Of each call of unscale_ the gradients to which a pass of a scaled loss added before the scaler's step.

    None that was cleared in between, or that the program itself wrote: it may have multiplied it by the scale again.
    """
    calls = events.of(EventKind.GRAD_SCALER)
    undone = [event for event in calls if event.detail.get("call") == "unscale_"]
    if not undone:
        return
    optimizers = {one.made.subject: one.tensors for one in seen_optimizers(index, events)}
    scales, terms = _Scales(index, events, flow, lives), _Terms(index, flow, lives)
    for event in undone:
        optimizer, since = event.detail.get("optimizer", NONE), event.op - 1
        steps = [one for one in calls if one.detail.get("call") == "step" and one.detail.get("optimizer") == optimizer]
        step = next((one for one in steps if one.op > since), None)
        if step is None:
            continue
        for leaf in optimizers.get(optimizer, ()):
            passes, cleared = lives.passes.get(leaf, []), lives.cleared.get(leaf, [])
            given, added = last_before(passes, event.op), first_after(passes, since)
            if not 0 <= given < since < added < step.op or ops_between(cleared, given, step.op):
                continue
            is_stepped = ops_between(lives.steps.get(leaf, []), given, added)
            if is_stepped or not (scales.carries(given) and scales.carries(added)):
                continue
            if not terms.may_multiply(leaf, given, since, added):
                yield AddedAfterDivision(leaf, event, added, step)


class _Scales:
    """What carries the loss scale in a run, and what surely does not."""

    def __init__(self, index: Index, events: Events, flow: Flow, lives: GradientLives) -> None:
        self._index = index
        self._flow = flow
        self._lives = lives
        self._events = events
        self._carry: dict[int, bool | None] = {}

    @cached_property
    def _scaling(self) -> list[int]:
        return self._index.calls_of(lambda name: name == f"{_OF_SCALERS}scale")

    @cached_property
    def _scaled(self) -> frozenset[int]:
        """The scaled losses, and the scales themselves, which are made where the first of them is scaled."""
        index, events = self._index, self._events.of(EventKind.GRAD_SCALER)
        losses = {tensor for event in events if event.detail.get("call") == "scale" for tensor in event.tensors}
        return frozenset(losses.union(*map(index.tensors_made, self._scaling), *map(index.results.of, self._scaling)))

    @cached_property
    def _read_at(self) -> int:
        """When the program itself first looked at the scale: from there on it may have used it as a number."""
        index = self._index
        calls = self._events.of(EventKind.GRAD_SCALER)
        read = [event.op for event in calls if event.detail.get("call") == "get_scale"]
        for scale in {tensor for op in self._scaling for tensor in index.results.of(op)}:
            read += [op for op in index.users.of(scale) if index.recording.ops.column("kind")[op] == OpKind.EXPORT]
        return min(read, default=index.op_count + 1)

    @cached_property
    def _large(self) -> frozenset[int]:
        """The spans of calls that multiply by a large number of Python's own."""
        spans = self._index.recording.ops.column("span")
        factors = self._events.of(EventKind.FACTOR)
        return frozenset(spans[one.subject] for one in factors if abs(one.detail.get("by") or 0.0) > _LARGEST)

    def carries(self, backward: int) -> bool:
        """Whether a backward pass started from what carries the scale."""
        return self._of_pass(backward) is True

    def lacks(self, backward: int) -> bool:
        """Whether a backward pass started from what lacks it."""
        return self._of_pass(backward) is False and backward < self._read_at

    def _of_pass(self, backward: int) -> bool | None:
        """Whether what a pass started from carries the scale; None where it does in part, or is not known."""
        if backward not in self._carry:
            roots = self._index.roots.get(backward, ())
            carry = {root in self._scaled or self._is_made_of_scaled(root, backward) for root in roots}
            self._carry[backward] = next(iter(carry)) if len(carry) == 1 else None
        return self._carry[backward]

    def _is_made_of_scaled(self, tensor: int, op: int) -> bool:
        return not self._scaled.isdisjoint(self._flow.origins(tensor, op))

    def is_plain(self, term: int, op: int) -> bool:
        """Whether nothing of a term comes from a gradient, or from a number that may be the scale."""
        index = self._index
        tensors, (kinds, spans) = index.recording.tensors, map(index.recording.ops.column, ("kind", "span"))
        flags, made_at = tensors.column("flags"), tensors.column("op")
        if op >= self._read_at or spans[op] in self._large:
            return False
        for tensor in self._flow.origins(term, op):
            if flags[tensor] & GRADIENT or tensor in self._lives.owners or tensor in self._scaled:
                return False
            if flags[tensor] & EXTERNAL:
                if not flags[tensor] & PARAMETER and self._is_one_number(tensor):
                    return False
            elif kinds[made_at[tensor]] in (OpKind.GRAD, OpKind.BACKWARD) or spans[made_at[tensor]] in self._large:
                return False
        return True

    def _is_one_number(self, tensor: int) -> bool:
        recording = self._index.recording
        return recording.text(recording.layouts[recording.tensors.column("layout")[tensor]].shape) == "()"


class _Terms:
    """What the program itself adds to gradients."""

    def __init__(self, index: Index, flow: Flow, lives: GradientLives) -> None:
        self._index = index
        self._flow = flow
        self._lives = lives

    @cached_property
    def _written(self) -> dict[int, list[tuple[int, int]]]:
        """For each memory block of a gradient the calls that wrote into it, and through which tensor."""
        index, found = self._index, dict[int, list[tuple[int, int]]]()
        flags, made_at = (index.recording.tensors.column(name) for name in ("flags", "op"))
        storages = {index.storage_at(gradient, index.op_count) for gradient in self._lives.owners}
        for op, tensor, _, _ in all_writes(index):
            is_born = op == made_at[tensor] and not flags[tensor] & EXTERNAL
            storage = index.storage_at(tensor, op)
            if op < index.op_count and not is_born and storage in storages:
                found.setdefault(storage, []).append((op, tensor))
        return found

    @cached_property
    def _set(self) -> dict[int, list[tuple[int, int]]]:
        """For each leaf the ops that gave it another tensor as its gradient."""
        changes, found = self._index.recording.changes, dict[int, list[tuple[int, int]]]()
        columns = (changes.column(name) for name in ("op", "tensor", "field", "after"))
        for op, tensor, field, after in zip(*columns, strict=True):
            if field == Field.GRAD and after >= 0 and op < self._index.op_count:
                found.setdefault(tensor, []).append((op, after))
        return found

    def is_touched(self, leaf: int, since: int, until: int) -> bool:
        """Whether the program wrote a leaf's gradient between two ops, or gave it another one; it may be limited."""
        index = self._index
        passes = {*self._lives.passes.get(leaf, ())}
        storages = {index.storage_at(one, until) for one, owner in self._lives.owners.items() if owner == leaf}
        written = (op for storage in storages for op, _ in self._written.get(storage, ()) if op not in passes)
        set_at = (op for op, _ in self._set.get(leaf, ()))
        return any(
            since < op < until and not index.func(op).startswith((*_CLIPS, _OF_SCALERS))
            for op in chain(written, set_at)
        )

    def added(self, leaf: int, scaled: int, until: int, scales: _Scales) -> Iterator[int]:
        """The ops between two that added a term without the scale to a leaf's gradient, up to one that is unclear."""
        index = self._index
        passes = {*self._lives.passes.get(leaf, ())}
        gradient = self._given(leaf, scaled)
        replaced = [(op, NONE, new) for op, new in self._set.get(leaf, ()) if scaled < op < until]
        storages = {index.storage_at(one, until) for one in (gradient, *(new for _, _, new in replaced))}
        written = [
            (op, tensor, NONE)
            for storage in storages
            for op, tensor in self._written.get(storage, ())
            if scaled < op < until and op not in passes
        ]
        for op, tensor, new in sorted(written + replaced):
            if new < 0 and index.method(op).startswith(_CLIPS):
                continue
            terms = self._of_write(op, tensor) if new < 0 else self._of(new, gradient, op)
            if terms is None:
                return
            yield from (at for at, term in terms if scales.is_plain(term, at))
            gradient = new if new >= 0 else gradient

    def may_multiply(self, leaf: int, given: int, after: int, before: int) -> bool:
        """Whether the program wrote or replaced a gradient between two ops, and did more than to limit it."""
        index = self._index
        storage = index.storage_at(self._given(leaf, given), after)
        written = (op for op, _ in self._written.get(storage, ()) if after < op < before)
        is_written = any(not index.func(op).startswith(_CLIPS) for op in written)
        return is_written or any(after < op < before for op, _ in self._set.get(leaf, ()))

    def _given(self, leaf: int, backward: int) -> int:
        given = self._lives.given.get(backward, ())
        return next((one for one in given if self._lives.owners.get(one) == leaf), NONE)

    def _of_write(self, op: int, written: int) -> list[tuple[int, int]] | None:
        """The terms that a call added to what it wrote; None where it did something else."""
        index, uses = self._index, list(self._index.uses.of(op))
        if index.func(op) == "Tensor.copy_" and len(uses) > 1:
            return self._of(uses[1], written, op)
        if index.func(op) not in _ADDS or written not in uses:
            return None
        return [(op, term) for term in self._others(op, uses, uses.index(written))]

    def _others(self, op: int, uses: list[int], position: int) -> list[int]:
        """What a call adds to the tensor at a position; of one for many tensors the one that belongs to it."""
        if "_foreach_" not in self._index.func(op):
            return [tensor for at, tensor in enumerate(uses) if at != position]
        half = len(uses) // 2
        return [uses[half + position]] if len(uses) == 2 * half and position < half else []

    def _of(self, tensor: int, gradient: int, before: int) -> list[tuple[int, int]] | None:
        """The terms of a sum that a gradient is part of; None where a tensor is something else."""
        index, terms = self._index, list[tuple[int, int]]()
        storage = index.storage_at(gradient, before)
        for _ in range(_DEPTH):
            if index.storage_at(tensor, before) == storage:
                return terms
            op = index.made_by(tensor)
            if not 0 <= op < index.op_count:
                return None
            uses = list(index.uses.of(op))
            if index.method(op) in _COPIES and uses:
                tensor = uses[0]
            elif index.func(op) in _ADDS:
                carriers = [at for at, one in enumerate(uses) if self._is_part(one, storage, op)]
                if "_foreach_" in index.func(op):
                    made = index.tensors_made(op)
                    carriers = [made.index(tensor)] if tensor in made and made.index(tensor) < len(uses) else []
                if len(carriers) != 1:
                    return None
                terms += [(op, term) for term in self._others(op, uses, carriers[0])]
                tensor = uses[carriers[0]]
            else:
                return None
        return None

    def _is_part(self, tensor: int, storage: int, op: int) -> bool:
        return any(self._index.storage_at(one, op) == storage for one in self._flow.origins(tensor, op))
