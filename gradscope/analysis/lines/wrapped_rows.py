"""Rows of statements that wrap a tensor into a parameter: ``self.w = nn.Parameter(torch.zeros(3))``.

The wrapping call is not seen. Where the parameter turns up only later, the row is about it, not about what it wraps.
"""

from __future__ import annotations

import ast
import re

from gradscope.analysis.facts.names.best_names import BestNames
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
    target = _target(row.source) or _target_among(index, group.last_tensor)
    name = names.held_at(parameter, group.last_op) or target or names.of(parameter)
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


def _target_among(index: Index, tensor: int) -> str:
    """The same of one of several values that a statement of one line stores: ``a, b = nn.Parameter(…), 3``."""
    recording = index.recording
    span = recording.ops.column("span")[recording.tensors.column("op")[tensor]]
    place = recording.spans[span] if span >= 0 else None
    if place is None or place.stmt_line != place.stmt_end_line or place.file < 0:
        return ""
    text = recording.source(place.file, place.line)
    try:
        body = ast.parse(text.strip()).body
    except SyntaxError:
        return ""  # the first line of a block
    start, assigned = len(text) - len(text.lstrip()), body[0] if len(body) == 1 else None
    if not isinstance(assigned, ast.Assign) or len(assigned.targets) != 1:
        return ""
    target, value = assigned.targets[0], assigned.value
    if not isinstance(target, ast.Tuple) or not isinstance(value, ast.Tuple) or len(target.elts) != len(value.elts):
        return ""
    for name, one in zip(target.elts, value.elts, strict=True):
        begins, ends = start + one.col_offset, start + (one.end_col_offset or 0)
        if begins <= place.col and place.end_col <= ends:
            return ast.unparse(name) if isinstance(name, ast.Name | ast.Attribute) else ""
    return ""


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
