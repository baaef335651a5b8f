"""One backward pass: what it did to the ``.grad`` of each leaf that was there."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch._C import DisableTorchFunctionSubclass

from gradscope.recorder.state.identity import Identity
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

    def __init__(self, identity: Identity, kind: int, args: Any, kwargs: Any) -> None:
        if identity.dead:
            identity.bury()
        self._identity = identity
        options = kwargs or {}
        named = (options[name] for name in ("self", "tensors", "outputs") if name in options)
        roots = args[0] if args else next(named, ())
        listed = (roots,) if isinstance(roots, Tensor) else tuple(roots)
        known = [identity.tensors.get(id(root)) for root in listed if isinstance(root, Tensor)]
        self._roots = [(seen.row, seen.node) for seen in known if seen is not None]
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

    def note_roots(self, op: int, tape: Tape) -> None:
        """Write the pass's roots, also of a pass that raises."""
        for row, node in self._roots:
            tape.pending["backwards"] += (op, row, node, self._retain_graph, self._create_graph)

    def finish(self, op: int, tape: Tape) -> None:
        """Write the pass's roots, and the outcome for each leaf that was there before it."""
        self.note_roots(op, tape)
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
            tape.pending["gradients"] += (op, row, outcome, grad, nbytes)
