"""Rows about a tensor that a statement wrote into, where autograd followed some of the runs and not others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.analysis.lines.line_groups import RowGroup
from gradscope.recording import NONE
from gradscope.recording.flags import REQUIRES_GRAD


@dataclass(eq=False, repr=False)
class _Runs:
    count: int = 0
    tracked: int = 0
    in_every_run: int = -1
    in_any_run: int = 0
    last_tracked: tuple[int, int] = (NONE, NONE)
    """Op and tensor."""


def tell_of_tracked_runs(index: Index, names: BestNames, groups: list[RowGroup]) -> None:
    """Let rows of kind ``changed`` count their runs by requires_grad, and describe the last one that autograd followed.

    Rows of kind ``made`` are collected so.
    """
    wanted = {(group.statement, names.best[group.last_tensor]): group for group in groups if group.kind == "changed"}
    runs: dict[tuple[int, int], _Runs] = {key: _Runs() for key in wanted}
    modes = index.recording.ops.column("flags")
    for op, tensor, required in _writes(index):
        found = runs.get((index.op_statement[op], names.best[tensor]))
        if found is not None:
            found.count += 1
            found.tracked += required
            found.in_every_run &= modes[op]
            found.in_any_run |= modes[op]
            if required:
                found.last_tracked = (op, tensor)
    for key, group in wanted.items():
        found = runs[key]
        if 0 < found.tracked < found.count == group.count and group.members == 1:
            group.tracked = found.tracked
            group.in_every_run, group.in_any_run = found.in_every_run, found.in_any_run
            group.last_op, group.last_tensor = found.last_tracked


def _writes(index: Index) -> Iterator[tuple[int, int, bool]]:
    """Every write in place: op, tensor, and whether the tensor required grad after it."""
    flags, changes = index.recording.tensors.column("flags"), index.recording.changes
    ops, tensors, after = (changes.column(name) for name in ("op", "tensor", "after"))
    flag_rows = sorted(row for rows in index.changed_ops.values() for row in rows)
    required: dict[int, bool] = {}
    ahead = 0
    for op, tensor, _, _ in all_writes(index):
        while ahead < len(flag_rows) and ops[flag_rows[ahead]] <= op:
            required[tensors[flag_rows[ahead]]] = bool(after[flag_rows[ahead]])
            ahead += 1
        if op < index.op_count:
            yield op, tensor, required.get(tensor, bool(flags[tensor] & REQUIRES_GRAD))
