"""What is asked of many tensors at once: around a backward pass, an optimizer's step and ``zero_grad``.

A model has hundreds of parameters, and each of these calls looks at all of them: so the loops over them are in one
place, where the native core does the same (``native/many.c``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from weakref import ref

from torch import Tensor
from torch._C import DisableTorchFunctionSubclass

from gradscope.recorder.state.identity import Seen
from gradscope.recorder.state.tensor_states import TensorStates
from gradscope.recorder.state.tensors_in import grad_of, version_of, written_version_of
from gradscope.recorder.tape import Tape
from gradscope.recording.flags import GRADIENT, LEAF
from gradscope.recording.rows import GradOutcome
from gradscope.recording.tables import NONE

CREATED, ACCUMULATED, UNTOUCHED, MISSING = map(int, GradOutcome)
_NO_GRADIENT = (None, 0)

Held = tuple[Any, int]
"""A parameter that has a gradient, and the gradient's row (or NONE)."""
GradientBefore = tuple[Callable[[], Any] | None, int]
"""A weak reference to a leaf's gradient, or None where it has none, and the gradient's version."""


class ManyTensors:
    """Looks at many tensors, and writes what was found.

    Args:
        tape: Where rows go.
        states: What is known of tensors.
    """

    def __init__(self, tape: Tape, states: TensorStates) -> None:
        self._states = states
        self._identity = states.identity
        self._uses = tape.pending["uses"]
        self._gradients = tape.pending["gradients"]

    def versions(self, tensors: list[Any]) -> list[tuple[Any, int]]:
        """Tensors with the versions that they have."""
        return [(tensor, version_of(tensor)) for tensor in tensors]

    def updated(self, versions: list[tuple[Any, int]]) -> list[tuple[Any, int, int]]:
        """Those of some tensors that have another version than before, with both."""
        now = ((tensor, before, version_of(tensor)) for tensor, before in versions)
        return [(tensor, before, after) for tensor, before, after in now if before != after]

    def held(self, parameters: list[Any]) -> list[Held]:
        """The gradients that are there. Only numbers are held: one kept alive could change what the program sees."""
        found = ((parameter, grad_of(parameter)) for parameter in parameters)
        return [(parameter, self._identity.row_of(grad)) for parameter, grad in found if grad is not None]

    def cleared(self, held: list[Held]) -> list[Held]:
        """Those that had a gradient and have none any more."""
        return [(parameter, row) for parameter, row in held if grad_of(parameter) is None]

    def before(self, leaves: list[int]) -> dict[int, GradientBefore]:
        """The gradient of each of some leaves (rows) before a pass.

        A pass that makes a graph replaces it, and the new one is often at the address of the old one: an ``id`` does
        not tell them apart.
        """
        found = dict[int, GradientBefore]()
        for row in leaves:
            gradient = grad_of(self._identity.leaves[row]())
            if gradient is None:
                found[row] = _NO_GRADIENT
            else:
                known = self._identity.tensors.get(id(gradient))
                found[row] = (ref(gradient) if known is None else known, written_version_of(gradient))
        return found

    def after(
        self, leaves: list[int], before: Mapping[int, GradientBefore], op: int, raised: bool
    ) -> list[tuple[int, Any]]:
        """Write what became of the gradients of some leaves in a pass.

        Args:
            leaves: Their rows.
            before: What :meth:`before` gave before the pass.
            op: The pass.
            raised: It has raised: it may have been on its way to leaves that have got nothing.

        Returns:
            The leaves that got a gradient, and what they have now.
        """
        given = list[tuple[int, Any]]()
        for row in leaves:
            gradient_before, version_before = before[row]
            reference = self._identity.leaves.get(row)
            gradient = grad_of(reference()) if reference is not None else None
            outcome, grad, nbytes = MISSING, NONE, 0
            if gradient is not None:
                seen = self._identity.tensors.get(id(gradient))
                is_new = seen is None
                if seen is None:
                    seen = self._enter_gradient(gradient, op)
                grad = seen.row
                if gradient_before is None:
                    outcome, nbytes = CREATED, seen.nbytes
                elif gradient_before() is not gradient:
                    outcome, nbytes = ACCUMULATED, seen.nbytes if is_new else 0
                elif written_version_of(gradient) != version_before:
                    outcome = ACCUMULATED
                else:
                    outcome = UNTOUCHED
            if outcome in (CREATED, ACCUMULATED):
                given.append((row, gradient))
            elif raised:
                continue
            self._gradients += (op, row, outcome, grad, nbytes)
        return given

    def _enter_gradient(self, gradient: Any, op: int) -> Seen:
        with DisableTorchFunctionSubclass():
            flags = GRADIENT if gradient.requires_grad else GRADIENT | LEAF
            return self._identity.add(gradient, op, NONE, flags, ())

    def note_changes(
        self, op: int, field: int, changes: list[tuple[Any, int, int]], enter: Callable[[Any, int, bool], object]
    ) -> None:
        """Note the tensors that an op took and changed.

        Args:
            op: The op.
            field: What it changed of each.
            changes: Each with what the field was before and is now.
            enter: Enters a tensor that is not known, as one that the op took.
        """
        for tensor, before, after in changes:
            seen = self._identity.tensors.get(id(tensor))
            if seen is None:
                enter(tensor, op, False)
                seen = self._identity.tensors[id(tensor)]
            else:
                self._uses += (op, seen.row)
            self._states.change(op, seen, field, before, after)

    def enter_new(self, states: Iterable[Any], op: int) -> None:
        """Enter the tensors in an optimizer's state of each parameter that are not known yet."""
        known = self._identity.tensors
        for state in list(states):
            for value in list(dict.values(state)) if isinstance(state, dict) else ():
                if id(value) not in known and isinstance(value, Tensor):
                    self._states.enter(value, op, 0, False, 0, ())
