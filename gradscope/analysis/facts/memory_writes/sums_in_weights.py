"""Sums over the weights of several models that are added up in the memory of one of them, which then goes on with it.

``average = clients[0].state_dict()``, ``average[key] += other[key]``, ``average[key] = average[key] / n``: the last
makes a new tensor, so that the first client is left with the sum. Where the sum itself is scaled in place, or weights
are mixed by factors, that model may be meant to have what comes of it: unless it is loaded into a further model, and
the first of those that were added up alone goes on with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.losses.factors import plain_name
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, PARAMETER
from gradscope.recording.rows import EventKind

_LOADS = frozenset(("nn.Module.load_state_dict", "Tensor.copy_"))
_ADDS = frozenset(("Tensor.add_", "Tensor.__iadd__"))
_SCALES = frozenset(("div", "true_divide", "truediv", "mul", "multiply", "divide"))


class SumInWeights(NamedTuple):
    """One parameter."""

    parameter: int
    taken: int
    """The tensor on its memory in which the sum was made up."""
    added: int
    """The last op that added another model's weights."""
    scaled: int
    """The op that made a new tensor of the sum, or an average in place."""
    read: int
    """The op that used the parameter, with the sum or the average in it."""
    is_average: bool
    """The sum was scaled in place."""


def sums_in_weights(index: Index, events: Events) -> Iterator[SumInWeights]:
    """Each parameter once, as it was first."""
    owners = _owners(index)
    added = _added(index, events, owners)
    written = _written(index, set(added))
    for storage, ops in added.items():
        for op, taken in ops:
            others = written[storage]
            before = max((one for one in others if one < op), default=-1)
            until = min((one for one in others if one > op), default=index.op_count)
            if until < index.op_count and any(one == until for one, _ in ops):
                continue  # (the sum goes on)
            if (
                until < index.op_count
                and (read := _used_as_average(index, owners, added, written, storage, until)) >= 0
            ):
                yield SumInWeights(owners[storage], taken, op, until, read, True)
                break
            if before >= 0 and plain_name(index.func(before)) in _SCALES:
                continue
            scaled = next((one for one in index.users.of(taken) if op < one < until and _is_scaling(index, one)), -1)
            read = next((one for one in index.users.of(owners[storage]) if one > scaled and _is_use(index, one)), until)
            if 0 <= scaled < read < until:
                yield SumInWeights(owners[storage], taken, op, scaled, read, False)
                break


def _used_as_average(
    index: Index,
    owners: dict[int, int],
    added: dict[int, list[tuple[int, int]]],
    written: dict[int, list[int]],
    storage: int,
    scaled: int,
) -> int:
    """The op that used a parameter whose memory an op scaled in place; NONE where it may be meant to be the average.

    That was loaded into a model which is none of those that were added up, and these go on with weights of their own.
    """
    is_scaling = plain_name(index.func(scaled).removesuffix("_")) in _SCALES and len(index.uses.of(scaled)) == 1
    if not is_scaling:
        return NONE
    until = min((one for one in written[storage] if one > scaled), default=index.op_count)
    others = {index.storage_at(list(index.uses.of(op))[1], op) for op, _ in added[storage] if op < scaled}
    loads = [
        op
        for op in index.calls_of(_LOADS.__contains__)
        for into, source in zip(list(index.uses.of(op))[::2], list(index.uses.of(op))[1::2], strict=False)
        if scaled < op < until and index.storage_at(source, op) == storage and index.storage_at(into, op) not in others
    ]
    uses = [
        next((op for op in index.users.of(owners[one]) if op > scaled and _goes_on(index, op)), NONE)
        for one in (storage, *others)
    ]
    go_on = all(op >= 0 and index.func(op) not in _LOADS for op in uses)
    return uses[0] if loads and go_on and loads[0] < uses[0] <= until else NONE


def _goes_on(index: Index, op: int) -> bool:
    """Whether a call computes with a parameter, or gives it other values."""
    return index.func(op) in _LOADS or (_is_use(index, op) and plain_name(index.func(op)) not in ("equal", "allclose"))


def _owners(index: Index) -> dict[int, int]:
    """The parameter on each storage of one."""
    flags = index.recording.tensors.column("flags")
    parameters = [tensor for tensor, flag in enumerate(flags) if flag & PARAMETER]
    return {index.storage_at(one, index.op_count): one for one in parameters}


def _added(index: Index, events: Events, owners: dict[int, int]) -> dict[int, list[tuple[int, int]]]:
    """For each memory block of a parameter the ops that added another parameter to it, and through which tensor."""
    spans, flags = index.recording.ops.column("span"), index.recording.tensors.column("flags")
    with_factor = {spans[one.subject] for one in events.of(EventKind.FACTOR)}
    found: dict[int, list[tuple[int, int]]] = {}
    for op in index.calls_of(_ADDS.__contains__):
        uses = list(index.uses.of(op))
        if len(uses) != 2 or spans[op] in with_factor or flags[uses[0]] & PARAMETER:
            continue
        storage, other = (index.storage_at(one, op) for one in uses)
        if storage in owners and other in owners and storage != other and _is_whole(index, uses, owners[storage]):
            found.setdefault(storage, []).append((op, uses[0]))
    return found


def _is_whole(index: Index, uses: list[int], parameter: int) -> bool:
    """Whether what is added, and what to, has the shape of a parameter."""
    layouts = index.recording.tensors.column("layout")
    return len({index.recording.layouts[layouts[one]].shape for one in (*uses, parameter)}) == 1


def _written(index: Index, storages: set[int]) -> dict[int, list[int]]:
    """For each of some memory blocks the ops that wrote it, in order."""
    flags, made_at = (index.recording.tensors.column(name) for name in ("flags", "op"))
    found: dict[int, list[int]] = {storage: [] for storage in storages}
    for op, tensor, _, _ in all_writes(index) if storages else ():
        is_born = op == made_at[tensor] and not flags[tensor] & EXTERNAL
        storage = index.storage_at(tensor, op)
        if storage in storages and op < index.op_count and not is_born and found[storage][-1:] != [op]:
            found[storage].append(op)
    return found


def _is_scaling(index: Index, op: int) -> bool:
    """Whether a call makes a new tensor of the sum alone and a number: an average."""
    name, made = index.func(op), index.tensors_made(op)
    is_one = plain_name(name) in _SCALES and not name.endswith("_") and bool(made)
    return is_one and sum(not _is_number(index, one) for one in index.uses.of(op)) == 1


def _is_number(index: Index, tensor: int) -> bool:
    layout = index.recording.layouts[index.recording.tensors.column("layout")[tensor]]
    return index.recording.text(layout.shape) == "()"


def _is_use(index: Index, op: int) -> bool:
    """Whether a call computes with a parameter: it does not only hand it out, or copy it."""
    name = index.func(op)
    return not name.startswith("nn.Module.") and plain_name(name) not in ("deepcopy", "detach", "clone", "data.__get__")
