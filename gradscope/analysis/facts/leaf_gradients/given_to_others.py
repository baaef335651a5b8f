"""Gradients that ``autograd.grad`` gave for one tensor, and that became the ``.grad`` of another."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from gradscope.analysis.index import Index
from gradscope.recording.rows import Field, OpKind

_USES = frozenset((OpKind.CALL, OpKind.GROUP, OpKind.COLLECTIVE, OpKind.EXPORT))
_OF_TRAINING = ("optim.", "nn.utils.clip_grad")


def asked_and_given(index: Index, held: Collection[int]) -> dict[int, list[int]]:
    """For each tensor the calls of ``autograd.grad`` whose gradient for it an optimizer's other tensor was given.

    None where one of those others is used for anything after the first call: then they are no copies that are left
    behind, and their values may come to where they are wanted.
    """
    asked = {gradient: (op, tensor) for op, tensor, gradient in _asked(index)}
    changes = index.recording.changes
    found: dict[tuple[int, int], list[int]] = {}
    columns = (changes.column(name) for name in ("tensor", "field", "after"))
    for other, field, gradient in zip(*columns, strict=True):
        if field == Field.GRAD and gradient in asked and other in held:
            op, tensor = asked[gradient]
            if tensor != other:
                found.setdefault((tensor, other), []).append(op)
    if any(_is_used(index, other, ops[0]) for (_, other), ops in found.items()):
        return {}
    return {tensor: ops for (tensor, _), ops in found.items()}


def _is_used(index: Index, tensor: int, since: int) -> bool:
    """Whether anything but an optimizer, and what clips its gradients, took a tensor after an op."""
    kinds = index.recording.ops.column("kind")
    return any(
        op > since and kinds[op] in _USES and not index.func(op).startswith(_OF_TRAINING)
        for op in index.users.of(tensor)
    )


def _asked(index: Index) -> Iterator[tuple[int, int, int]]:
    """Each call of ``autograd.grad``, a tensor that it was asked for, and the gradient that it gave for it."""
    layouts = index.recording.tensors.column("layout")
    for op in index.of_kind(OpKind.GRAD):
        inputs = [one for one in index.uses.of(op) if one not in index.roots.get(op, ())]
        gradients = index.tensors_made(op)
        shapes = [[index.recording.layouts[layouts[one]].shape for one in several] for several in (inputs, gradients)]
        if shapes[0] == shapes[1]:  # (else some were None, or it was given weights of its own: which is whose?)
            for tensor, gradient in zip(inputs, gradients, strict=True):
                yield op, tensor, gradient
