"""The values of small gradients at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gradscope.recorder.session import Recorder
from gradscope.recorder.state.tensors_in import PLAIN, grad_of
from gradscope.recorder.state.values_and_memory import SMALL
from gradscope.recording import NONE


def note_gradients(recorder: Recorder, names: Mapping[str, Any]) -> None:
    """Add to a complete recording the values of small gradients of the tensors that a module's names hold.

    A backward pass gives no result that ``--values`` could note; ``.grad`` is read when the program is over, so that
    nobody notices.
    """
    recording = recorder.recording
    end = len(recording.ops) - 1
    for tensor in {id(value): value for value in names.values() if type(value) in PLAIN}.values():
        grad = grad_of(tensor)
        row = recorder.row_of(grad)
        if row == NONE or end < 0:
            continue
        if type(grad) is Tensor and grad.is_cpu and grad.layout is torch.strided and grad.numel() <= SMALL:
            recording.strings.append(str(grad.detach().tolist()))
            recording.values.append((end, row, len(recording.strings) - 1))
