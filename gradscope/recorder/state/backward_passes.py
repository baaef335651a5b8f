"""One backward pass: what it did to the ``.grad`` of each leaf that was there."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch._C import DisableTorchFunctionSubclass
from torch.autograd.graph import GradientEdge

from gradscope.recorder.state.graph_nodes import GraphNodes
from gradscope.recorder.state.identity import Identity, Seen
from gradscope.recorder.state.tensors_in import grad_of, version_of
from gradscope.recorder.tape import Tape
from gradscope.recording.flags import GRADIENT, LEAF
from gradscope.recording.rows import GradOutcome, OpKind
from gradscope.recording.tables import NONE

_CREATED, _ACCUMULATED, _UNTOUCHED, _MISSING = map(int, GradOutcome)


class ObservedPass:
    """Compares every known leaf's ``.grad`` before and after a pass.

    Only numbers are held while the pass runs: a gradient held by Python could change how autograd accumulates.
    """

    def __init__(self, identity: Identity, graph: GraphNodes, kind: int, args: Any, kwargs: Any) -> None:
        if identity.dead:
            identity.bury()
        self._identity = identity
        options = kwargs or {}
        named = (options[name] for name in ("self", "tensors", "outputs") if name in options)
        roots = args[0] if args else next(named, ())
        listed = (roots,) if isinstance(roots, (Tensor, GradientEdge)) else tuple(roots)
        known = [identity.tensors.get(id(root)) for root in listed if isinstance(root, Tensor)]
        known += [_at_edge(root, identity, graph) for root in listed if isinstance(root, GradientEdge)]
        self._roots = [(seen.row, seen.node) for seen in known if seen is not None]
        # (the call's arguments keep them alive; what was not seen before is entered when the call is over)
        self._unseen = [root for root in listed if isinstance(root, Tensor) and id(root) not in identity.tensors]
        # Positions of retain_graph: backward(tensors, gradient, here, …), grad(outputs, inputs, grad_outputs, here, …).
        at = 3 if kind == OpKind.GRAD else 2
        create = options.get("create_graph", args[at + 1] if len(args) > at + 1 else False)
        retain = options.get("retain_graph", args[at] if len(args) > at else None)
        self._create_graph = bool(create)
        self._retain_graph = bool(create if retain is None else retain)
        self._before: dict[int, tuple[int, int]] = {}
        if kind == OpKind.BACKWARD:
            for row, reference in identity.leaves.items():
                gradient = grad_of(reference())
                self._before[row] = (0, 0) if gradient is None else (id(gradient), version_of(gradient))

    def _note_roots(self, op: int, tape: Tape) -> None:
        """Write the pass's roots."""
        entered = [self._identity.tensors.get(id(root)) for root in self._unseen]
        self._unseen = []
        self._roots += [(seen.row, seen.node) for seen in entered if seen is not None]
        for row, node in self._roots:
            tape.pending["backwards"] += (op, row, node, self._retain_graph, self._create_graph)

    def finish(self, op: int, tape: Tape, *, raised: bool = False) -> None:
        """Write the pass's roots, and the outcome for each leaf that was there before it.

        Of a pass that raised only what it gave is an outcome: it may have been on its way to the others.
        """
        self._note_roots(op, tape)
        for row, (identity_before, version_before) in self._before.items():
            reference = self._identity.leaves.get(row)
            gradient = grad_of(reference()) if reference is not None else None
            outcome, grad, nbytes = _MISSING, NONE, 0
            if gradient is not None:
                seen = self._identity.tensors.get(id(gradient))
                is_new = seen is None
                if seen is None:
                    with DisableTorchFunctionSubclass():
                        flags = GRADIENT if gradient.requires_grad else GRADIENT | LEAF
                        seen = self._identity.add(gradient, op, NONE, flags, ())
                grad = seen.row
                if not identity_before:
                    outcome, nbytes = _CREATED, seen.nbytes
                elif id(gradient) != identity_before:
                    outcome, nbytes = _ACCUMULATED, seen.nbytes if is_new else 0
                elif version_of(gradient) != version_before:
                    outcome = _ACCUMULATED
                else:
                    outcome = _UNTOUCHED
            if raised and outcome not in (_CREATED, _ACCUMULATED):
                continue
            tape.pending["gradients"] += (op, row, outcome, grad, nbytes)


def _at_edge(edge: GradientEdge, identity: Identity, graph: GraphNodes) -> Seen | None:
    """The known tensor that lives and whose gradient an edge leads to; None where there is none."""
    node = graph.row_of(edge.node)
    for seen in identity.tensors.values() if node != NONE else ():
        tensor = seen() if seen.node == node else None
        if tensor is not None:
            with DisableTorchFunctionSubclass():
                if tensor.output_nr == edge.output_nr:
                    return seen
    return None
