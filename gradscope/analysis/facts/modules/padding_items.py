"""Embeddings whose padding index was looked up as the others are: its row never gets a gradient.

Padding stands at the ends of sequences, and who pads says so elsewhere as well: a mask, a comparison with the padding
index, ``ignore_index``, packed sequences, a row more than there are items. Indices that are no sequences have no ends:
there only a table without a row to spare shows that the row is one of an item.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.shapes import shape_of
from gradscope.analysis.facts.value_looks import PaddingLook, PassLook
from gradscope.analysis.index import Index
from gradscope.recording import NONE

TIMES = 8
"""Look-ups of the padding row, in all that were looked at, from which on it is reported."""

_RARER, _MORE = 0.3, 2.5
"""How often it is looked up beside the others: padding and what is missing are rarer or much more frequent."""

_AS_OFTEN, _NO_MORE = 0.6, 1.6
"""The same where they are no sequences: what is unknown or missing has a share of its own."""

_MEANT = re.compile(
    r"ignore_index|pad_token|padding_mask|pack_padded|pad_sequence|pack_sequence|attention_mask|\bPAD\b"
)
"""What programs that pad write in other places, too."""

_COMPARES = frozenset(
    "eq ne gt lt ge le bool clamp clamp_min sign count_nonzero nonzero where masked_fill logical_not".split()  # noqa: SIM905 - quoted, the names would be hard to read
)
_LOOKS_UP = frozenset(("F.embedding",))
_STEPS = 8


class PaddingItem(NamedTuple):
    """A weight of which one row never learns."""

    weight: int
    op: int
    """The last look-up that was looked at."""
    times: int
    """Look-ups of its padding row."""
    indices: int
    """Of so many look-ups in all."""
    inside: int
    """Of the ``times``, those between others in a sequence; NONE where they are no sequences."""
    looks: list[PassLook]


def padding_items(index: Index, looks: list[PassLook]) -> Iterator[PaddingItem]:
    """Those that were trained, one for each weight."""
    made_by = index.recording.nodes.column("op")
    by_weight: dict[int, list[tuple[int, PassLook, PaddingLook]]] = {}
    for look in looks:
        for padding in look.padding:
            op = made_by[padding.node]
            taken = list(index.uses.of(op)) if 0 <= op < index.op_count and index.func(op) in _LOOKS_UP else []
            if len(taken) == 2 and taken[1] in look.gradients:
                by_weight.setdefault(taken[1], []).append((op, look, padding))
    if not by_weight or any(_MEANT.search(file.text) for file in index.recording.files if file.is_user):
        return
    compared = _compared(index)
    for weight, found in by_weight.items():
        ops = [op for op, _, _ in found]
        times, indices, inside = (sum(one[place] for *_, one in found) for place in (1, 2, 4))
        usual = sum(one.indices / one.kinds for *_, one in found)
        if times < TIMES or not _RARER * usual <= times <= _MORE * usual:
            continue
        if any(_is_compared(index, op, compared) for op in ops):
            continue
        is_sequence = all(sum(size > 1 for size in shape_of(index, index.uses.of(op)[0])) > 1 for op in ops)
        if is_sequence:
            is_item = 2 * inside >= times
        else:
            is_full = max(one.kinds for *_, one in found) == shape_of(index, weight)[0]
            is_item = is_full and _AS_OFTEN * usual <= times <= _NO_MORE * usual
        if is_item:
            looked_at = [look for _, look, _ in found]
            yield PaddingItem(weight, ops[-1], times, indices, inside if is_sequence else NONE, looked_at)


def _compared(index: Index) -> frozenset[int]:
    """The storages of what the program compares."""
    storages = index.recording.tensors.column("storage")
    ops = index.calls_of(lambda name: name.rpartition(".")[2].strip("_") in _COMPARES)
    return frozenset(storages[tensor] for op in ops for tensor in index.uses.of(op))


def _is_compared(index: Index, op: int, compared: frozenset[int]) -> bool:
    """Whether the indices of a look-up, or what they were taken of, are compared with anything."""
    storages = index.recording.tensors.column("storage")
    tensor = index.uses.of(op)[0]
    for _ in range(_STEPS):
        if storages[tensor] in compared:
            return True
        made = index.made_by(tensor)
        taken = list(index.uses.of(made)) if 0 <= made < index.op_count else []
        if not taken:
            return False
        tensor = taken[0]
    return False
