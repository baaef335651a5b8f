"""Gradients that are copied to be those of other parameters: of the float32 ones that stand for a model in half."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, last_before
from gradscope.analysis.facts.writes import is_step
from gradscope.analysis.index import Index
from gradscope.recording.rows import Field, OpKind

_DEPTH = 4
"""Calls between a gradient and what it is copied to."""


class CopiedGradient(NamedTuple):
    """A gradient that was copied, and the step that applies the copy."""

    copied_at: int
    other: int
    """The parameter whose gradient the copy is."""
    step: int


class CopiedGradients:
    """Those of one recording."""

    def __init__(self, index: Index, lives: GradientLives) -> None:
        self._index = index
        self._lives = lives

    def before(self, gradient: int, op: int) -> CopiedGradient | None:
        """The copy of a gradient that was made since the pass and before an op, and that a step after the op applies.

        None where it is on the same memory, where something wrote it meanwhile, and where the gradient is copied, or
        stepped itself, after the op as well.
        """
        index, owner = self._index, self._lives.owners[gradient]
        passed = last_before(self._lives.passes.get(owner, []), op)
        cleared = first_after(self._lives.cleared.get(owner, []), op)
        until = cleared if cleared >= 0 else index.op_count
        if passed < 0 or op < first_after(self._lives.steps.get(owner, []), op) < until:
            return None
        if self._copy_between(gradient, op, until) is not None:
            return None
        found = self._copy_between(gradient, passed, op)
        if found is None:
            return None
        copied_at, copy = found
        other = self._set[copy]
        step = first_after(self._steps.get(other, []), op)
        written = [use for use in index.users.of(copy) if copied_at < use < step and index.func(use).endswith("_")]
        is_other = index.storage_at(copy, op) != index.storage_at(gradient, op) and other != owner
        return CopiedGradient(copied_at, other, step) if is_other and step >= 0 and not written else None

    def _copy_between(self, gradient: int, after: int, before: int) -> tuple[int, int] | None:
        """The op between two that gave another parameter a gradient made from this one, and that gradient."""
        index, kinds = self._index, self._index.recording.ops.column("kind")
        todo, seen = [(gradient, _DEPTH)], {gradient}
        while todo:
            tensor, depth = todo.pop()
            for op in index.users.of(tensor):
                if not after < op < before:
                    continue
                taken = index.uses.of(op)
                if kinds[op] == OpKind.SET and tensor in self._set and tensor != gradient:
                    return op, tensor
                if index.func(op) == "Tensor.copy_" and taken[0] != tensor and taken[0] in self._set:
                    return op, taken[0]
                if kinds[op] == OpKind.CALL and depth:
                    new = [one for one in index.tensors_made(op) if one not in seen]
                    seen.update(new)
                    todo += [(one, depth - 1) for one in new]
        return None

    @cached_property
    def _set(self) -> dict[int, int]:
        """The parameter whose ``.grad`` the program made a tensor."""
        changes = self._index.recording.changes
        columns = (changes.column(name) for name in ("tensor", "field", "after"))
        rows = zip(*columns, strict=True)
        return {after: tensor for tensor, field, after in rows if field == Field.GRAD and after >= 0}

    @cached_property
    def _steps(self) -> dict[int, list[int]]:
        """The steps of optimizers that took each parameter."""
        index, found = self._index, dict[int, list[int]]()
        for op in index.of_kind(OpKind.STEP, OpKind.GROUP):
            for tensor in index.uses.of(op) if is_step(index, op) else ():
                found.setdefault(tensor, []).append(op)
        return found
