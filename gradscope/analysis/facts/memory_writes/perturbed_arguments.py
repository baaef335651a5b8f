"""Data that a function moves along a gradient in place, through a ``detach()`` of what it was given.

``adv = x.detach()`` in an attack has the memory of ``x``, and ``adv += alpha * grad.sign()`` changes the data set: the
next epoch begins from what the last one left.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.memory_writes.unkept_states import is_of_gradient
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.storage_groups import StorageGroups, overlap
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.frames.names.given_names import gives_back_what_it_takes
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import OpKind

_TAKES = ("Tensor.detach", "Tensor.data.__get__")
_MOVES = frozenset(f"Tensor.{name}" for name in ("add_", "sub_", "__setitem__", "copy_", "addcmul_", "mul_"))


class PerturbedArgument(NamedTuple):
    """What one statement took, in all of its runs."""

    op: int
    """The last ``detach()`` that found what an earlier run had left."""
    source: int
    """What it was called on."""
    written: int
    """The write of the earlier run."""
    runs: int


def perturbed_arguments(index: Index, lives: GradientLives, sharing: StorageGroups) -> Iterator[PerturbedArgument]:
    """One for each statement that takes such memory again."""
    taken: dict[int, list[int]] = {}
    flags = index.recording.tensors.column("flags")
    for op in index.calls_of_methods(*_TAKES):
        given, made = index.uses.of(op), index.tensors_made(op)
        where = index.statements[index.op_statement[op]]
        if where.file < 0 or len(given) != 1 or len(made) != 1 or index.requires_grad(given[0], op):
            continue
        if not flags[given[0]] & PARAMETER and given[0] not in lives.owners:
            taken.setdefault(index.op_statement[op], []).append(op)
    taken = {statement: ops for statement, ops in taken.items() if len(ops) > 1 and _is_of_argument(index, statement)}
    writes = _writes(index, lives) if taken else {}
    for ops in taken.values():
        ends = [*ops[1:], index.op_count]
        left: list[tuple[int, int]] = []
        again: list[tuple[int, int]] = []
        for op, end in zip(ops, ends, strict=True):
            alias = index.tensors_made(op)[0]
            found = [write for write, tensor in left if _is_same_memory(index, sharing, tensor, alias)]
            if found:
                again.append((op, found[-1]))
            own = writes.get((index.storage_at(alias, op), *index.function_of(op)), [])
            after = own[bisect_right(own, op) :][:1]
            if after and after[0] < end:
                left.append((after[0], alias))
        if again:
            op, written = again[-1]
            yield PerturbedArgument(op, index.uses.of(op)[0], written, index.times(one for one, _ in again))


def _is_of_argument(index: Index, statement: int) -> bool:
    """Whether a statement is in a function that gives a value back, and begins from one of its arguments."""
    where = index.statements[statement]
    name = index.recording.text(where.function).rpartition(".")[2]
    return not name.endswith("_") and gives_back_what_it_takes(index.recording.files[where.file].text, where.line)


def _is_same_memory(index: Index, sharing: StorageGroups, tensor: int, other: int) -> bool:
    storages = index.recording.tensors.column("storage")
    return storages[tensor] == storages[other] >= 0 and overlap(sharing.range_of(tensor), sharing.range_of(other))


def _writes(index: Index, lives: GradientLives) -> dict[tuple[int, int, int], list[int]]:
    """By memory block and function: the writes that move it by what was computed from a gradient, in order."""
    found: dict[tuple[int, int, int], list[int]] = {}
    kinds = index.recording.ops.column("kind")
    for op, tensor, _, _ in all_writes(index):
        is_move = op < index.op_count and kinds[op] == OpKind.CALL and index.method(op) in _MOVES
        if is_move and any(is_of_gradient(index, lives, one) for one in index.uses.of(op)[1:]):
            found.setdefault((index.storage_at(tensor, op), *index.function_of(op)), []).append(op)
    return {key: sorted(set(ops)) for key, ops in found.items()}
