"""Writes in place that read what they have written already: ``x -= x[:, :1]``.

torch refuses it where both operands lie dense on the memory (``x -= x[0]``); of others it does not know whether they
overlap, and writes.
"""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.losses.factors import AS_IT_IS, called, maker
from gradscope.analysis.facts.memory_writes.order_of_writes import Laid, blocks, part_of, reads_written
from gradscope.analysis.facts.storage_groups import StorageGroups, numbers_in
from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.values.literal_indices import literal_indices
from gradscope.recording.rows import OpKind

_SETS = "setitem"
COPIES = frozenset(("copy", _SETS))
"""Calls that write what they read as it is."""
_BY_ELEMENT = frozenset(("add", "sub", "subtract", "mul", "multiply", "div", "divide", "true_divide", *COPIES))
"""Calls that compute each element from those at the same place, by their plain names.

Not those that give the same when they are run on their own result: ``&``, ``minimum``.
"""
_PRODUCTS = ("mul", "multiply")
_OF_TRUTH = frozenset(
    """
    eq ne lt le gt ge logical_not logical_and logical_or invert bool isnan isinf isfinite zeros ones zeros_like
    ones_like one_hot bernoulli
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Calls that give truth values, or zeros and ones."""


class OverlappingRead(NamedTuple):
    """The last such write of a statement."""

    op: int
    written: int
    read: int


def overlapping_reads(index: Index, sharing: StorageGroups) -> list[OverlappingRead]:
    """One for each statement, the last."""
    kinds, found = index.recording.ops.column("kind"), dict[int, OverlappingRead]()
    settled = dict[tuple[str, Laid, Laid], bool]()
    for op, written, _, _ in writes_by_program(index):
        name = called(index, op)
        if kinds[op] != OpKind.CALL or name not in _BY_ELEMENT or index.op_statement[op] == NOWHERE:
            continue
        others = set(index.uses.of(op)) - {written}
        if len(others) != 1 or (
            name != _SETS and written not in index.results.of(op)
        ):  # a third operand may be another type's
            continue
        (read,) = others
        if not all(_is_offset_known(index, sharing, one) for one in (written, read)):
            continue
        if not _is_on_one_memory(index, op, written, read) or (name in _PRODUCTS and _is_mask(index, written)):
            continue
        target: Laid | None = _laid(index, sharing, written, op)
        if name == _SETS:  # the part that is written has no tensor of its own
            indices = literal_indices(index.span_source(op, exact=True))
            target = part_of(target, indices) if target is not None and indices is not None else None
        if target is None:
            continue
        places = target, _laid(index, sharing, read, op)
        key = name, *places
        if key not in settled:
            lengths = blocks(index.recording.info.platform, _item_size(index, written, op))
            settled[key] = reads_written(*places, lengths, is_copy=name in COPIES)
        if settled[key]:
            found[index.op_statement[op]] = OverlappingRead(op, written, read)
    return list(found.values())


def _is_on_one_memory(index: Index, op: int, written: int, read: int) -> bool:
    """Whether both are numbers of one type on one memory of the CPU: of another type, torch makes a copy first."""
    if index.storage_at(written, op) != index.storage_at(read, op) or written in index.moves or read in index.moves:
        return False
    recording = index.recording
    one, other = (recording.layouts[index.layout_at(tensor, op)] for tensor in (written, read))
    is_plain = recording.text(one.device) == "cpu" and recording.text(one.form) == "strided"
    return is_plain and one.dtype == other.dtype and recording.text(one.dtype) != "bool"


def _is_offset_known(index: Index, sharing: StorageGroups, tensor: int) -> bool:
    """Of the first tensor that was seen on a memory, only that it fills the memory tells where it begins."""
    if tensor in sharing.alias_row:
        return True
    recording = index.recording
    layout, storage = (recording.tensors.column(name)[tensor] for name in ("layout", "storage"))
    return storage >= 0 and recording.layouts[layout].nbytes == recording.storages.column("nbytes")[storage]


def _is_mask(index: Index, tensor: int, steps: int = 6) -> bool:
    """Whether a tensor comes from truth values: its numbers are 0 and 1, and each times itself is what it was."""
    for _ in range(steps):
        op = maker(index, tensor)
        if op < 0:
            return False
        if called(index, op) in _OF_TRUTH:
            return True
        taken = index.uses.of(op)
        if called(index, op) not in AS_IT_IS or not taken:
            return False
        tensor = taken[0]
    return False


def _laid(index: Index, sharing: StorageGroups, tensor: int, op: int) -> Laid:
    layout = index.recording.layouts[index.layout_at(tensor, op)]
    shape, stride = (numbers_in(index.recording.text(text)) for text in (layout.shape, layout.stride))
    return Laid(shape, stride, sharing.offset_of(tensor))


def _item_size(index: Index, tensor: int, op: int) -> int:
    layout, count = index.recording.layouts[index.layout_at(tensor, op)], 1
    for size in numbers_in(index.recording.text(layout.shape)):
        count *= size
    return max(1, layout.nbytes // max(1, count))
