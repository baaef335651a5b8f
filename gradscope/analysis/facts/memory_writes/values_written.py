"""Writes into tensors, of values that were made of others."""

from __future__ import annotations

from collections.abc import Iterable

from gradscope.analysis.facts.writes import all_writes, is_step
from gradscope.analysis.index import Index

_LOAD = "nn.Module.load_state_dict"
_FOLLOWED = 12
"""Tensors that are followed from what is written back to what it is made of."""


def writes_beside_steps(index: Index, tensors: Iterable[int]) -> dict[int, list[int]]:
    """For the memory of each of some tensors the calls that wrote into it, in order; no steps of optimizers."""
    found: dict[int, set[int]] = {index.storage_at(one, index.op_count): set() for one in tensors}
    for op, tensor, _, _ in all_writes(index):
        on = index.storage_at(tensor, op)
        if on in found and op < index.op_count and not is_step(index, op):
            found[on].add(op)
    return {storage: sorted(ops) for storage, ops in found.items()}


def made_of(index: Index, op: int, into: int) -> set[int]:
    """The memory blocks that what a call writes into a block was made of, as far back as is looked."""
    taken, todo = list(index.uses.of(op)), list[int]()
    if index.func(op) == _LOAD:
        pairs = zip(taken[::2], taken[1::2], strict=False)
        todo = [source for to, source in pairs if index.storage_at(to, op) == into]
    else:
        todo = taken[1:]
    found, seen = set[int](), set(todo)
    while todo and len(seen) <= _FOLLOWED:
        tensor = todo.pop()
        on, made = index.storage_at(tensor, op), index.made_by(tensor)
        found.add(on)
        if on != into and 0 <= made < op:
            new = [one for one in index.uses.of(made) if one not in seen]
            seen.update(new)
            todo += new
    return found
