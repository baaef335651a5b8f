"""The values of small gradients at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gradscope.recorder.extras import SMALL
from gradscope.recording import NONE, Recording


def note_gradients(recording: Recording, names: Mapping[str, Any]) -> None:
    """Add to a complete recording the values of small gradients of the tensors that a module's names hold.

    A backward pass gives no result that ``--values`` could note; ``.grad`` is read when the program is over, so that
    nobody notices.
    """
    gradient_of = {row.tensor: row.grad for row in recording.gradients if row.grad != NONE}
    for binding in recording.bindings:
        gradient = gradient_of.get(binding.tensor, NONE)
        tensor: Any = names.get(recording.text(binding.name))
        if gradient == NONE or binding.span != NONE or type(tensor) not in (Tensor, torch.nn.Parameter):
            continue
        grad = tensor.grad if tensor.is_leaf or tensor.retains_grad else None
        if type(grad) is Tensor and grad.is_cpu and grad.layout is torch.strided and grad.numel() <= SMALL:
            recording.strings.append(str(grad.detach().tolist()))
            recording.values.append((len(recording.ops) - 1, gradient, len(recording.strings) - 1))
