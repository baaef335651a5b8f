"""Tensors that calls without grad mode leave where only a backward pass takes them out again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.index import Index
from gradscope.frames.called_by_torch.kept_for_backward import KeptForBackward, kept_for_backward
from gradscope.recording import NONE
from gradscope.recording.flags import GRAD

AT_LEAST = 4
"""Tensors of such calls that are there at the end, from which on they pile up."""


class KeptWithoutBackward(NamedTuple):
    """What one statement put there."""

    file: int
    put: KeptForBackward
    tensors: tuple[int, ...]
    """Those of calls without grad mode; none of them is gone."""
    nbytes: int
    """Of their memory blocks."""
    op: int
    """The last of the calls."""


def kept_without_backward(index: Index) -> Iterator[KeptWithoutBackward]:
    """One for each statement, where what it put there in grad mode went again."""
    for number, file in enumerate(index.recording.files):
        for put in kept_for_backward(file.text) if file.is_user else ():
            kept = _of_statement(index, number, put)
            if kept is not None:
                yield kept


def _of_statement(index: Index, file: int, put: KeptForBackward) -> KeptWithoutBackward | None:
    tensors = index.recording.tensors
    made_at, died, on = (tensors.column(name) for name in ("op", "died", "storage"))
    flags, statements = index.recording.ops.column("flags"), index.statements
    at = {
        number
        for number, one in enumerate(statements)
        if one.file == file and put.line <= one.line and one.end_line <= put.end_line
    }
    spans, calls = index.recording.ops.column("span"), dict[int, tuple[list[int], list[int]]]()
    for tensor, op in enumerate(made_at):
        if op < index.op_count and index.op_statement[op] in at and tensor in index.tensors_made(op):
            calls.setdefault(spans[op], ([], []))[bool(flags[op] & GRAD)].append(tensor)
    for kept, in_training in calls.values():
        goes = [tensor for tensor in in_training if died[tensor] != NONE]
        if len(kept) < AT_LEAST or any(died[one] != NONE for one in kept) or 2 * len(goes) <= len(in_training):
            continue
        if made_at[goes[-1]] > made_at[kept[0]]:  # (else it may have been emptied by other means before)
            blocks = {on[one] for one in kept if on[one] >= 0}
            nbytes = sum(map(index.recording.storages.column("nbytes").__getitem__, blocks))
            return KeptWithoutBackward(file, put, tuple(kept), nbytes, made_at[kept[-1]])
    return None
