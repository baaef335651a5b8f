"""A tensor's autograd state: asked of torch when it is first seen, and compared when it may have changed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradscope.recorder.state.graph_nodes import GraphNodes
from gradscope.recorder.state.identity import Identity, Seen
from gradscope.recorder.state.tensors_in import PLAIN
from gradscope.recorder.tape import Tape
from gradscope.recorder.torch_internals.capabilities import tracked_inside
from gradscope.recording.rows import Field, TensorFlag
from gradscope.recording.tables import NONE

_REQUIRES_GRAD, _LEAF = int(TensorFlag.REQUIRES_GRAD), int(TensorFlag.LEAF)
_FIELDS = tuple(int(field) for field in (Field.REQUIRES_GRAD, Field.GRAD_FN, Field.LEAF, Field.STORAGE, Field.LAYOUT))
_STORAGE, _EXTERNAL = int(Field.STORAGE), int(TensorFlag.EXTERNAL)
_DisableSubclass = torch._C.DisableTorchFunctionSubclass


class TensorStates:
    """Enters tensors with their ``grad_fn``, and notes what changed about those that are known."""

    def __init__(self, tape: Tape, identity: Identity, graph: GraphNodes) -> None:
        self.tape = tape
        self.identity = identity
        self.graph = graph

    def enter(self, tensor: Any, op: int, since: int, read_saved: bool, flags: int, inputs: Any) -> Seen:
        """Enter a tensor with its ``grad_fn``."""
        if type(tensor) not in PLAIN:
            # Unpacking a saved output detaches it, which would run the subclass's code.
            read_saved = read_saved and type(tensor).__torch_dispatch__ is Tensor.__torch_dispatch__
            with _DisableSubclass():
                requires_grad = tensor.requires_grad
                grad_fn = tensor.grad_fn if requires_grad else None
                node = NONE if grad_fn is None else self.graph.enter(grad_fn, op, since, read_saved, NONE, inputs)
                flags |= (_REQUIRES_GRAD if requires_grad else 0) | (_LEAF if grad_fn is None else 0)
                return self.identity.add(tensor, op, node, flags, inputs)
        if not tensor.requires_grad:
            seen = self.identity.add(tensor, op, NONE, flags | _LEAF, inputs)
            if seen.storage == NONE and not flags & _EXTERNAL:
                self._enter_inside(tensor, op, since, read_saved)
            return seen
        grad_fn = tensor.grad_fn
        if grad_fn is None:
            return self.identity.add(tensor, op, NONE, flags | _LEAF | _REQUIRES_GRAD, inputs)
        node = self.graph.enter(grad_fn, op, since, read_saved, NONE, inputs)
        return self.identity.add(tensor, op, node, flags | _REQUIRES_GRAD, inputs)

    def _enter_inside(self, tensor: Tensor, op: int, since: int, read_saved: bool) -> None:
        """Enter the nodes of what vmap wraps at the call that made them, and not at that of the whole function."""
        inside = tracked_inside(tensor)
        if inside is not None and inside.grad_fn is not None:
            self.graph.enter(inside.grad_fn, op, since, read_saved)

    def compare(
        self, tensor: Any, seen: Seen, op: int, since: int, read_saved: bool, *, keeps_node: bool = False
    ) -> None:
        """Compare a tensor with what was known of it; its new state becomes what is known.

        Args:
            tensor: A known one.
            seen: What is known of it.
            op: The op that may have changed it.
            since: See :meth:`GraphNodes.enter`.
            read_saved: See :meth:`GraphNodes.enter`.
            keeps_node: The op makes no node: a ``grad_fn`` with the number of the known one is the known one.
        """
        identity = self.identity
        with _DisableSubclass():
            try:
                requires_grad = tensor.requires_grad
                grad_fn = tensor.grad_fn if requires_grad else None
            except RuntimeError:  # a view that autograd forbids to be used since its base was changed in place
                return
            known = seen.node if keeps_node else NONE
            node = NONE if grad_fn is None else self.graph.enter(grad_fn, op, since, read_saved, known)
            storage = identity.storage_of(tensor, op)
            layout, nbytes = identity.layout(tensor)
            if layout != seen.layout and storage == seen.storage:
                storage, moved = identity.grown_storage_of(tensor, storage, op)
                for other in (one for one in moved if one is not seen):
                    self.change(op, other, _STORAGE, other.storage, storage)
                    other.storage = storage
        old = (bool(seen.requires_grad), seen.node, seen.node == NONE, seen.storage, seen.layout)
        new = (requires_grad, node, node == NONE, storage, layout)
        if old == new:
            return
        for field, value_before, value in zip(_FIELDS, old, new, strict=True):
            if value_before != value:
                self.change(op, seen, field, int(value_before), int(value))
        seen.requires_grad, seen.node, seen.storage = requires_grad, node, storage
        seen.layout, seen.nbytes = layout, nbytes
        if requires_grad and node == NONE:
            identity.watch_grad(seen)

    def change(self, op: int, seen: Seen, field: int, old: int, new: int) -> None:
        """Note one change of a known tensor."""
        self.tape.pending["changes"] += (op, seen.row, field, old, new)
