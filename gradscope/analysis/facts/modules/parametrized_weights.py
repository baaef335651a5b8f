"""Weights that a parametrization computed (``torch.nn.utils.parametrize``)."""

from __future__ import annotations

from gradscope.analysis.index import Index
from gradscope.recording import NONE

_HOLDER = "ParametrizationList"
"""The class of the module that computes one, and in which the parametrizations of the program's are."""


def by_parametrization(index: Index, tensor: int) -> bool:
    """Whether an op in a parametrization made a tensor.

    Of an op that nobody looked at in which module it ran, all tell it that did the same at the same place of the
    program and were looked at: a call of one layer on one line may run in the layer as well.
    """
    made_at = index.recording.tensors.column("op")[tensor]
    if not 0 <= made_at < index.op_count:
        return False
    columns = (index.recording.module_ops.column(name) for name in ("op", "module"))
    looked_at = dict(zip(*columns, strict=True))
    if made_at in looked_at:
        return _is_inside(index, looked_at[made_at])
    place = _place(index, made_at)
    alike = [module for op, module in looked_at.items() if _place(index, op) == place]
    return bool(alike) and all(_is_inside(index, module) for module in alike)


def _place(index: Index, op: int) -> tuple[int, int, int]:
    func, span, inner = (index.recording.ops.column(name)[op] for name in ("func", "span", "inner"))
    return func, span, inner


def _is_inside(index: Index, module: int) -> bool:
    recording = index.recording
    while module != NONE:
        if recording.text(recording.modules[module].kind) == _HOLDER:
            return True
        module = recording.modules[module].parent
    return False
