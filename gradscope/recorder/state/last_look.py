"""What is asked of the tensors that still live when a recording ends.

A tensor may be changed by way of another one: a write through a view or through ``detach()``, a gradient that
``autograd.grad`` leaves in ``.grad``. No call shows that for the tensor itself; so each one that bears a name is asked
once more, and what is different is a change after the last op.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from itertools import compress
from typing import Any

import torch
from torch import Tensor

from gradscope.recorder.state.identity import Seen
from gradscope.recorder.state.tensor_states import TensorStates
from gradscope.recorder.state.tensors_in import PLAIN, grad_of, version_of
from gradscope.recorder.tape import Tape
from gradscope.recording import Recording
from gradscope.recording.flags import EXTERNAL, GRAD_FIELD, GRADIENT, OFFSET_FIELD, VERSION_FIELD
from gradscope.recording.tables import NONE

_DisableSubclass = torch._C.DisableTorchFunctionSubclass
_FOUND_GRADIENT = GRADIENT | EXTERNAL


class LastLook:
    """Writes what is found after the last op; what cannot be asked of one tensor is left out for that one.

    Args:
        tape: Complete, as far as the program's calls go.
        states: The tensors as they were at the last op that touched each.
    """

    def __init__(self, tape: Tape, states: TensorStates) -> None:
        self._tape = tape
        self._states = states
        self._identity = states.identity

    def settle(self) -> None:
        """Compare what is named with what is known of it."""
        self._tape.flush()
        recording = self._tape.recording
        named = set(recording.bindings.column("tensor"))
        live = [seen for seen in self._identity.tensors.values() if seen.row in named]
        versions, gradients = _last_versions(recording), _last_gradients(recording)
        offsets = dict(zip(*(recording.aliases.column(name) for name in ("tensor", "offset")), strict=True))
        for seen in live:
            tensor = seen()
            if tensor is None or not _runs_no_code(tensor):
                continue
            self._guarded(self._compare_version, tensor, seen, versions.get(seen.row, 0))
            if self._states.graph.has_one_thread:
                self._guarded(self._states.compare, tensor, seen, self._tape.op_count, 0, False)
            self._guarded(self._compare_offset, tensor, seen, offsets.get(seen.row, 0))
            self._guarded(self._compare_grad, tensor, seen, gradients.get(seen.row, NONE))

    def _compare_version(self, tensor: Any, seen: Seen, known: int) -> None:
        version = version_of(tensor)
        if version not in (NONE, known):
            self._states.change(self._tape.op_count, seen, VERSION_FIELD, known, version)

    def _compare_offset(self, tensor: Any, seen: Seen, known: int) -> None:
        with _DisableSubclass():
            offset = tensor.storage_offset() if seen.storage != NONE else known
        if offset != known:
            self._states.change(self._tape.op_count, seen, OFFSET_FIELD, known, offset)

    def _compare_grad(self, tensor: Any, seen: Seen, known: int) -> None:
        op, grad = self._tape.op_count, grad_of(tensor)
        row = NONE
        if grad is not None:
            row = self._identity.row_of(grad)
            if row == NONE:
                row = self._states.enter(grad, op, 0, False, _FOUND_GRADIENT, ()).row
        if row != known:
            self._states.change(op, seen, GRAD_FIELD, known, row)

    def _guarded(self, step: Callable[..., object], *details: Any) -> None:
        try:
            step(*details)
        except (RuntimeError, NotImplementedError):
            pass  # torch forbids it: a view whose base was changed in place, a wrapper of a transform that is over
        except Exception:
            self._tape.fault("last look", traceback.format_exc())


def _runs_no_code(tensor: Any) -> bool:
    """Whether a tensor can be asked without running code of the program's."""
    return type(tensor) in PLAIN or type(tensor).__torch_dispatch__ is Tensor.__torch_dispatch__


def _changes_of(field: int, recording: Recording, *columns: str) -> Iterator[Any]:
    """Columns of the changes of one field; there may be a million, so no step of it is Python's."""
    chosen = recording.changes.column("field").tobytes().translate(bytes(code == field for code in range(256)))
    return zip(*(compress(recording.changes.column(name), chosen) for name in columns), strict=True)


def _last_versions(recording: Recording) -> dict[int, int]:
    """The last version of each tensor that ever had another than 0."""
    return dict(_changes_of(VERSION_FIELD, recording, "tensor", "after"))


def _last_gradients(recording: Recording) -> dict[int, int]:
    """The ``.grad`` of each tensor, a tensor too, as backward passes left it or as the program set it."""
    passes = recording.gradients
    last = dict(zip(passes.column("tensor"), zip(passes.column("op"), passes.column("grad"), strict=True), strict=True))
    for tensor, op, after in _changes_of(GRAD_FIELD, recording, "tensor", "op", "after"):
        if op > last.get(tensor, (NONE, NONE))[0]:
            last[tensor] = (op, after)
    return {tensor: grad for tensor, (_, grad) in last.items()}
