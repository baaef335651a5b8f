"""Does every id in a recording stand for a row that is there, and can its sizes be added up? Analyses do so unasked."""

from __future__ import annotations

from array import array
from graphlib import CycleError, TopologicalSorter
from itertools import compress
from typing import Any

from gradscope.recording.column_marks import AnyOf, ByKind, Holds, OneOf, RowOf, Text
from gradscope.recording.model import Recording
from gradscope.recording.rows import TensorFlag
from gradscope.recording.tables import NONE, Table

_MOST_BYTES = 2**62

_DEEPEST = 200
"""Modules around a module."""


def check_content(recording: Recording) -> None:
    """Check all columns.

    Raises:
        ValueError: One holds what stands for nothing.
    """
    if not recording.strings:
        raise ValueError("it has no texts")
    tables = recording.tables
    sizes = {name: len(table) for name, table in tables.items()}
    sizes |= {"files": len(recording.files), "strings": len(recording.strings)}
    for name, table in tables.items():
        for column, declared in table.declared.items():
            _check_column(f"{name}.{column}", table, table.column(column), declared.holds, sizes)
    _check_made_tensors(recording)
    _check_sizes(recording)
    _check_graph(recording)
    _check_modules(recording)


def _check_made_tensors(recording: Recording) -> None:
    """Only what was not seen to be made can have been found when all ops were over."""
    tensors, end = recording.tensors, len(recording.ops)
    for op, flags in zip(tensors.column("op"), tensors.column("flags"), strict=True):
        if op == end and not flags & TensorFlag.EXTERNAL:
            raise ValueError("a tensor was made by an op that is not there")


def _check_sizes(recording: Recording) -> None:
    """Sums of bytes are signed 64-bit numbers. Storages without an address (meta tensors) have no memory to add up."""
    storages, saved = recording.storages, recording.saved
    allocated = sum(compress(storages.column("nbytes"), storages.column("data_ptr")))
    kept = sum(compress(saved.column("nbytes"), (storage < 0 for storage in saved.column("storage"))))
    if allocated + kept > _MOST_BYTES or min(storages.column("nbytes"), default=0) < 0:
        raise ValueError("it tells of more memory than there can be")


def _check_graph(recording: Recording) -> None:
    """Who walks a graph of nodes must come to its end."""
    made_by = recording.nodes.column("op")
    columns = (recording.edges.column(name) for name in ("node", "next"))
    edges = [(node, after) for node, after in zip(*columns, strict=True) if after >= 0]
    # The recorder comes from a node to those before it: of an earlier op, or found in the same one's walk after it.
    if all((made_by[after], -after) < (made_by[node], -node) for node, after in edges):
        return
    order: TopologicalSorter[int] = TopologicalSorter()
    for node, after in edges:
        order.add(node, after)
    try:
        order.prepare()
    except CycleError as error:
        raise ValueError("its graph of nodes goes round in a circle") from error


def _check_modules(recording: Recording) -> None:
    """Who goes from a module to the one that it is part of must come to an end, and soon."""
    parents = recording.modules.column("parent")
    depths: dict[int, int] = {}
    for module in range(len(parents)):
        way = []
        current = module
        while current >= 0 and current not in depths:
            way.append(current)
            if len(way) > _DEEPEST:
                raise ValueError("its modules are parts of each other")
            current = parents[current]
        depth = depths.get(current, 0)
        for at, one in enumerate(reversed(way), depth + 1):
            depths[one] = at
        if depths[module] > _DEEPEST:
            raise ValueError("its modules are parts of each other")


def _check_column(where: str, table: Table[Any], column: array[int], holds: Holds, sizes: dict[str, int]) -> None:
    if isinstance(holds, ByKind):
        kinds = table.column(holds.kind)
        for kind, row_of in holds.rows.items():
            chosen = array("q", compress(column, (value == kind for value in kinds)))
            _check_column(where, table, chosen, row_of, sizes)
    elif bounds := _bounds(holds, sizes):
        _check(where, column, *bounds)


def _bounds(holds: Holds, sizes: dict[str, int]) -> tuple[int, int] | None:
    """The lowest and the highest value that stand for something; None where all do."""
    if isinstance(holds, OneOf):
        return min(holds.kinds), max(holds.kinds)
    if isinstance(holds, AnyOf):
        return 0, sum(holds.flags)
    if isinstance(holds, RowOf):
        return NONE if holds.optional else 0, sizes[holds.table] - (0 if holds.or_end else 1)
    return (NONE, sizes["strings"] - 1) if isinstance(holds, Text) else None


def _check(where: str, column: array[int], lowest: int, highest: int) -> None:
    if column and not (lowest <= min(column) and max(column) <= highest):
        wrong = next(at for at, value in enumerate(column) if not lowest <= value <= highest)
        raise ValueError(f"row {wrong} of {where} holds {column[wrong]}, which stands for nothing")
