"""Parameters that ``fully_shard`` puts into modules while they run: their gradients go to the sharded ones.

Between calls a module has the sharded parameters, ``DTensor``s; in a call, and up to its backward, ordinary ones of the
same shape under the same names, which never have a gradient themselves. They are told by just that.
"""

from __future__ import annotations

from gradscope.analysis.index import Index
from gradscope.recording.flags import EXTERNAL, PARAMETER
from gradscope.recording.rows import GradOutcome

_SHARDED = "DTensor"
_RECEIVED = (GradOutcome.CREATED, GradOutcome.ACCUMULATED)


def unsharded_parameters(index: Index) -> frozenset[int]:
    """The rows of such parameters; none where no tensor is sharded."""
    recording = index.recording
    kinds = {layout for layout, row in enumerate(recording.layouts) if recording.text(row.type_name) == _SHARDED}
    if not kinds:
        return frozenset()
    layouts, flags = recording.tensors.column("layout"), recording.tensors.column("flags")
    names: dict[int, set[tuple[str, str]]] = {}
    for name, tensor in zip(recording.bindings.column("name"), recording.bindings.column("tensor"), strict=True):
        _, _, end = recording.text(name).rpartition(".")
        names.setdefault(tensor, set()).add((recording.text(recording.layouts[layouts[tensor]].shape), end))
    sharded = {one for tensor, several in names.items() if layouts[tensor] in kinds for one in several}
    given = {row.tensor for row in recording.gradients if row.outcome in _RECEIVED}
    return frozenset(
        tensor
        for tensor, several in names.items()
        if flags[tensor] & PARAMETER and flags[tensor] & EXTERNAL and layouts[tensor] not in kinds
        if tensor not in given and several <= sharded
    )
