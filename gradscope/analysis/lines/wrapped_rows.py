"""Rows of statements that wrap a tensor into a parameter: ``self.w = nn.Parameter(torch.zeros(3))``.

The wrapping call is not seen. Where the parameter turns up only later, the row is about it, not about what it wraps.
"""

from __future__ import annotations

import re

from gradscope.analysis.facts.best_names import BestNames
from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.index import WRAPS, Index
from gradscope.analysis.lines.line_groups import RowGroup
from gradscope.analysis.report_model import LineRow
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, PARAMETER, REQUIRES_GRAD

_TARGET = re.compile(r"(\w+(?:\.\w+|\[\d+\])*) = ")


def about_parameter(index: Index, names: BestNames, sharing: StorageGroups, group: RowGroup, row: LineRow) -> LineRow:
    """The row, about the parameter that its statement made of the row's tensor; unchanged where it made none."""
    if group.kind != "made" or group.members > 1 or names.is_named(group.last_tensor):
        return row
    if not WRAPS.search(row.source) and not _is_made_in_library(index, group.last_tensor):
        return row
    parameter = _parameter_on(index, sharing, group.last_tensor)
    if parameter < 0:
        return row
    required = bool(index.recording.tensors.column("flags")[parameter] & REQUIRES_GRAD)
    name = names.held_at(parameter, group.last_op) or _target(row.source) or names.of(parameter)
    return row._replace(
        name=name,
        names=(name,) if name != names.of(parameter) or names.is_named(parameter) else (),
        type_name="Parameter",
        requires_grad=required,
        requires_grad_why="Parameter" if required else "",
        is_leaf=True,
        grad_fn="",
        alias_of="",
        notes=tuple(note for note in row.notes if not note.startswith("requires_grad in ")),
    )


def _target(source: str) -> str:
    """The name under which a statement stores its value, as written; empty where that may be another in each run."""
    found = _TARGET.match(source)
    return found[1] if found is not None else ""


def _is_made_in_library(index: Index, tensor: int) -> bool:
    """Whether a library allocated a tensor: what wraps it there, the user's line does not show."""
    recording = index.recording
    made, storage = (recording.tensors.column(name)[tensor] for name in ("op", "storage"))
    is_inside = made < index.op_count and recording.ops.column("inner")[made] >= 0
    return is_inside and storage >= 0 and recording.storages.column("op")[storage] == made


def _parameter_on(index: Index, sharing: StorageGroups, tensor: int) -> int:
    """The first parameter on the memory of a tensor, seen from outside only; NONE where there is none."""
    tensors, wanted = index.recording.tensors, PARAMETER | EXTERNAL
    storage_of, flags = tensors.column("storage"), tensors.column("flags")
    others = sharing.tensors_on.get(storage_of[tensor], ())
    return next((other for other in others if flags[other] & wanted == wanted), NONE)
