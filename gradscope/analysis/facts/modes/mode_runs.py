"""What dropouts and batch norms did in each call: whether they ran as in training, whatever was called to set that.

A dropout in evaluation gives back what it took; a batch norm in training writes its running statistics. That holds also
where a mode was set past ``train()`` and ``eval()``, or was put back by setting ``training``.
"""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import Field

DROPOUTS = frozenset(
    ("F.dropout", "F.dropout1d", "F.dropout2d", "F.dropout3d", "F.alpha_dropout", "F.feature_alpha_dropout")
)
_NORM = "F.batch_norm"
_WEIGHT = 3
"""A batch norm takes its input and its statistics before the weight."""


class ModeRun(NamedTuple):
    """A call of a dropout or a batch norm."""

    op: int
    site: tuple[str, int]
    """Which one it is: a batch norm by its weight, else where it is called from."""
    is_active: bool
    """It ran as in training."""
    walked_by: int
    """The first backward pass that came through it, or through what a dropout in evaluation gave back; or NONE."""


def mode_runs(index: Index, passes: Passes) -> list[ModeRun]:
    """All of them, in the order of the run."""
    changes, nodes = index.recording.changes, index.recording.tensors.column("node")
    columns = (changes.column(name) for name in ("op", "field"))
    written = {op for op, field in zip(*columns, strict=True) if field == Field.WRITTEN}
    spans, found = index.recording.ops.column("span"), []
    for op in index.calls_of(lambda name: name == _NORM or name in DROPOUTS):
        taken, made = index.uses.of(op), index.tensors_made(op)
        is_norm = index.func(op) == _NORM
        is_active = op in written if is_norm else bool(made)
        known = is_norm and len(taken) > _WEIGHT
        site = ("weight", taken[_WEIGHT]) if known else (index.func(op), spans[op])
        node = nodes[(made or taken)[0]] if len(made) or len(taken) else NONE
        found.append(ModeRun(op, site, is_active, passes.first_walked_at[node] if node >= 0 else NONE))
    return found
