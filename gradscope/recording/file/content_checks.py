"""Does every id in a recording stand for a row that is there, and can its sizes be added up? Analyses do so unasked."""

from __future__ import annotations

from array import array
from graphlib import CycleError, TopologicalSorter
from itertools import compress

from gradscope.recording.file.relations import CHANGED_ROWS, MEANINGS, AnyOf, Meaning, OneOf, RowOf
from gradscope.recording.model import Recording
from gradscope.recording.rows import TensorFlag
from gradscope.recording.tables import NONE

_MOST_BYTES = 2**62


def check_content(recording: Recording) -> None:
    """Check all columns.

    Raises:
        ValueError: One holds what stands for nothing.
    """
    if not recording.strings:
        raise ValueError("it has no texts")
    tables = recording.tables
    sizes = {name: len(table) for name, table in tables.items()} | {"files": len(recording.files)}
    for name, meanings in MEANINGS.items():
        for column, meaning in meanings.items():
            lowest, highest = _bounds(meaning, sizes, len(recording.strings))
            _check(f"{name}.{column}", tables[name].column(column), lowest, highest)
    changes = recording.changes
    fields = changes.column("field")
    for field, row_of in CHANGED_ROWS.items():
        lowest, highest = _bounds(row_of, sizes, len(recording.strings))
        for column in ("before", "after"):
            chosen = array("q", compress(changes.column(column), (value == field for value in fields)))
            _check(f"changes.{column}", chosen, lowest, highest)
    _check_made_tensors(recording)
    _check_sizes(recording)
    _check_graph(recording)


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
    edges = [edge for edge in recording.edges if edge.next >= 0]
    # The recorder comes from a node to those before it: of an earlier op, or found in the same one's walk after it.
    if all((made_by[edge.next], -edge.next) < (made_by[edge.node], -edge.node) for edge in edges):
        return
    order: TopologicalSorter[int] = TopologicalSorter()
    for edge in edges:
        order.add(edge.node, edge.next)
    try:
        order.prepare()
    except CycleError as error:
        raise ValueError("its graph of nodes goes round in a circle") from error


def _bounds(meaning: Meaning, sizes: dict[str, int], texts: int) -> tuple[int, int]:
    if isinstance(meaning, OneOf):
        return min(meaning.kinds), max(meaning.kinds)
    if isinstance(meaning, AnyOf):
        return 0, sum(meaning.flags)
    if isinstance(meaning, RowOf):
        return NONE if meaning.optional else 0, sizes[meaning.table] - (0 if meaning.or_end else 1)
    return NONE, texts - 1


def _check(where: str, column: array[int], lowest: int, highest: int) -> None:
    if column and not (lowest <= min(column) and max(column) <= highest):
        wrong = next(at for at, value in enumerate(column) if not lowest <= value <= highest)
        raise ValueError(f"row {wrong} of {where} holds {column[wrong]}, which stands for nothing")
