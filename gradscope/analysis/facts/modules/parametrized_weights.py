"""Weights that a parametrization computed (``torch.nn.utils.parametrize``)."""

from __future__ import annotations

from gradscope.analysis.index import Index
from gradscope.recording import NONE

_HOLDER = "ParametrizationList"
"""The class of the module that computes one, and in which the parametrizations of the program's are."""


def by_parametrization(index: Index, tensor: int) -> bool:
    """Whether an op in a parametrization made a tensor."""
    recording = index.recording
    made_at = recording.tensors.column("op")[tensor]
    columns = (recording.module_ops.column(name) for name in ("op", "module"))
    for op, module in zip(*columns, strict=True):
        while op == made_at and module != NONE:
            if recording.text(recording.modules[module].kind) == _HOLDER:
                return True
            module = recording.modules[module].parent
    return False
