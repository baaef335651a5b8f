"""Calls that gave a tensor which nothing took, in statements that are nothing but the call."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import NamedTuple

from gradscope.analysis.index import Index
from gradscope.frames.without_effect.dropped_results import dropped_results
from gradscope.frames.without_effect.dropped_updates import DroppedUpdate, dropped_layers, dropped_updates
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind, Span


class ResultDropped(NamedTuple):
    """The last such call of one line."""

    op: int
    taken: int
    """The tensor whose method was called."""
    owner: str
    """As the source has it."""


def results_dropped(index: Index) -> list[ResultDropped]:
    """One for each line of the user's files."""
    found: list[ResultDropped] = []
    kinds = index.recording.ops.column("kind")
    for number, file in enumerate(index.recording.files):
        dropped = dropped_results(file.text) if file.is_user else {}
        for statement, op in index.last_op.items() if dropped else ():
            where = index.statements[statement]
            owner = dropped.get((where.line, where.end_line)) if where.file == number else None
            made = index.tensors_made(op)
            if (
                owner is None
                or kinds[op] != OpKind.CALL
                or len(made) != 1
                or not index.method(op).startswith("Tensor.")
            ):
                continue
            if not len(index.users.of(made[0])) and len(index.uses.of(op)):
                found.append(ResultDropped(op, index.uses.of(op)[0], owner))
    return found


class UpdateDropped(NamedTuple):
    """The last call of one place, none of whose results anything took."""

    op: int
    taken: int
    """The tensor that it would have updated; the program goes on with it as it was."""
    found: DroppedUpdate


def updates_dropped(index: Index) -> list[UpdateDropped]:
    """One for each place in the user's files; calls that may be made to try them are left out."""
    places: dict[tuple[int, ...], DroppedUpdate] = {
        (number, *found.place): found
        for number, file in enumerate(index.recording.files)
        for found in (dropped_updates(file.text) if file.is_user else ())
    }
    if not places:
        return []
    by_line = {(number, line): found for (number, line, *_), found in places.items() if found.takes_one_call}
    of_span = {
        row: found
        for row, span in enumerate(index.recording.spans)
        if (found := _at(span, places, by_line)) is not None
    }
    ops: dict[int, list[int]] = {}
    for op, row in enumerate(index.recording.ops.column("span") if of_span else ()):
        if row in of_span:
            ops.setdefault(row, []).append(op)
    return [
        UpdateDropped(calls[-1], index.uses.of(calls[-1])[0], of_span[row])
        for row, calls in ops.items()
        if all(_gives_in_vain(index, op, of_span[row].name) for op in calls) and _is_gone_on_with(index, calls)
    ]


def _at(
    span: Span, places: dict[tuple[int, ...], DroppedUpdate], by_line: dict[tuple[int, int], DroppedUpdate]
) -> DroppedUpdate | None:
    if span.col >= 0 and span.end_col >= 0:
        return places.get((span.file, span.line, span.col, span.end_line, span.end_col))
    return by_line.get((span.file, span.line))


def _gives_in_vain(index: Index, op: int, name: str) -> bool:
    """Whether a call of the user's own gave one new tensor, and no call took it."""
    kinds, inner = (index.recording.ops.column(column) for column in ("kind", "inner"))
    made = index.tensors_made(op)
    is_call = kinds[op] == OpKind.CALL and inner[op] < 0 and index.func(op).rpartition(".")[2] == name
    is_new = len(made) == 1 and not len(index.results.of(op)) and len(index.uses.of(op)) > 0
    return is_call and is_new and not len(index.users.of(made[0]))


def _is_gone_on_with(index: Index, calls: list[int]) -> bool:
    """Whether another statement takes what the calls were given, after one of them."""
    storages = index.recording.tensors.column("storage")
    first: dict[int, int] = {}
    for op in calls:
        first.setdefault(storages[index.uses.of(op)[0]], op)
    first.pop(NONE, None)
    statement = index.op_statement[calls[0]]
    return any(
        op > first[storages[tensor]] and index.op_statement[op] != statement
        for op, tensor in zip(index.uses.keys, index.uses.values, strict=True)
        if storages[tensor] in first
    )


class LayerDropped(NamedTuple):
    """A statement that calls a layer and drops what it gives, in all of its runs."""

    op: int
    layer: str
    """As the source has it."""
    owner: str
    """The value that the layer is given, and with which the program goes on."""
    taken: int
    """The last tensor of that name."""
    weights: list[int]
    """Those of the layer."""


def layers_dropped(index: Index, unreached: Set[int]) -> Iterator[LayerDropped]:
    """One for each such statement of a layer of torch's own whose weights no backward pass reached.

    Args:
        index: The recording's.
        unreached: The leaves that required grad in backward passes and got no gradient from any.
    """
    for number, file in enumerate(index.recording.files):
        dropped = dropped_layers(file.text) if file.is_user and unreached else {}
        for statement in index.last_op if dropped else ():
            where = index.statements[statement]
            called = dropped.get((where.line, where.end_line)) if where.file == number else None
            if called is not None and (found := _layer_in_vain(index, statement, *called, unreached)) is not None:
                yield found


def _layer_in_vain(index: Index, statement: int, layer: str, owner: str, unreached: Set[int]) -> LayerDropped | None:
    ops = [op for op, other in enumerate(index.op_statement) if other == statement]
    made = {tensor for op in ops for tensor in index.tensors_made(op)}
    weights = {tensor for op in ops for tensor in index.uses.of(op) if index.is_leaf_with_grad(tensor, op)}
    if not made or not weights or not weights <= unreached or any(len(index.results.of(op)) for op in ops):
        return None  # (what changes statistics may be called for these)
    if any(index.op_statement[user] != statement for tensor in made for user in index.users.of(tensor)):
        return None
    given = [tensor for op in ops for tensor in index.uses.of(op) if tensor not in made and tensor not in weights]
    users = [user for tensor in given for user in index.users.of(tensor)]
    if not any(user > ops[0] and index.op_statement[user] != statement for user in users):
        return None
    return LayerDropped(ops[-1], layer, owner, given[-1], sorted(weights))
