"""What is recorded on request or on a GPU only: values of small tensors, the allocator's own figures."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradscope.recorder.tape import Tape

SMALL = 16
"""Elements of the largest tensor whose values are recorded."""


class Values:
    """Writes down the values of small CPU tensors after each op that made or changed them (``--values``)."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def note(self, tensor: Any, row: int, op: int) -> None:
        """Record the values of a tensor, where reading them is free: a small dense one on the CPU."""
        if type(tensor) is not Tensor and type(tensor) is not torch.nn.Parameter:
            return
        if not tensor.is_cpu or tensor.layout is not torch.strided or tensor.numel() > SMALL:
            return
        text = str(tensor.detach().tolist())
        self._tape.pending["values"] += (op, row, self._tape.text(text))


class AllocatorFigures:
    """Writes down what CUDA's allocator says, once for each call site that allocates (the question costs some µs)."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._last_span = -2

    def note(self, tensor: Any, span: int, op: int) -> None:
        """Record the allocator's figures after an op that made a tensor on a GPU."""
        if span == self._last_span or not tensor.is_cuda:
            return
        self._last_span = span
        device = tensor.device
        allocated = torch.cuda.memory_allocated(device)
        peak = torch.cuda.max_memory_allocated(device)
        self._tape.pending["memory"] += (op, self._tape.text(str(device)), allocated, peak)
