"""Masks of zeros and ones that are parameters, with which an optimizer's steps go on."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from gradscope.analysis.facts.writes import all_writes, is_step, replaced_memory
from gradscope.analysis.index import Index

_COMPARES = frozenset(
    """
    gt lt ge le eq ne __gt__ __lt__ __ge__ __le__ __eq__ __ne__ greater less greater_equal less_equal not_equal
    logical_and logical_or logical_not logical_xor isin bernoulli bernoulli_ isclose
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Calls that give zeros and ones, or truths."""

_TRIANGLES = frozenset(("tril", "triu", "tril_", "triu_"))
_ONES = frozenset(("ones", "ones_like", "new_ones"))

_AS_IT_IS = frozenset(
    """
    float double half bfloat16 to type type_as int long clone detach contiguous view view_as reshape unsqueeze squeeze
    expand expand_as repeat data cpu cuda where mul __mul__ __rmul__ add __add__ __radd__
    """.split()  # noqa: SIM905
)
"""Calls that leave zeros and ones what they are, where they take one tensor."""

_COPIES = frozenset(("copy_",))
_TAKES_OUT = frozenset(("mul_", "__imul__", "__setitem__", "masked_fill_"))
"""Writes by which ones become zeros and ones; of a weight they leave a weight."""
_FACTORS = frozenset(("mul", "__mul__", "__rmul__", "mul_", "__imul__"))
_DEEPEST = 6


class TrainedMask(NamedTuple):
    """A leaf of an optimizer's that the program gave zeros and ones."""

    leaf: int
    step: int
    """An optimizer's step that changed it since."""
    used: int
    """The call that multiplied with what the step had made of it."""


def trained_masks(index: Index, trained: Collection[int], masks: Collection[int]) -> Iterator[TrainedMask]:
    """Those among the leaves that optimizers hold.

    Args:
        index: Of the recording.
        trained: Leaves that optimizers hold.
        masks: Those of them that the program calls masks: what they multiply with may be anything. Another one must
            be multiplied with a leaf of its shape that is trained as well.
    """
    storages = index.recording.tensors.column("storage")
    made, stepped = _made_binary(index, {storages[leaf]: leaf for leaf in trained}), dict[int, list[int]]()
    for op, tensor, _, _ in all_writes(index) if made else ():
        if tensor in made and op < index.op_count and is_step(index, op):
            stepped.setdefault(tensor, []).append(op)
    for leaf, times in made.items():
        for used in reversed(index.users.of(leaf)):
            if index.call_name(used).rpartition(".")[2] not in _FACTORS or not index.requires_grad(leaf, used):
                continue
            since = max((op for op in times if op < used), default=-1)
            steps = [op for op in stepped.get(leaf, ()) if since < op < used]
            others = [one for one in index.uses.of(used) if one != leaf]
            if steps and others and (leaf in masks or _is_weight(index, leaf, others, trained)):
                yield TrainedMask(leaf, steps[0], used)
                break


def _is_weight(index: Index, leaf: int, others: list[int], trained: Collection[int]) -> bool:
    layouts, shapes = index.recording.tensors.column("layout"), index.recording.layouts.column("shape")
    return any(one in trained and shapes[layouts[one]] == shapes[layouts[leaf]] for one in others)


def _made_binary(index: Index, leaf_on: dict[int, int]) -> dict[int, list[int]]:
    """For each leaf when it was given zeros and ones: at its birth, or by a write."""
    tensors = index.recording.tensors
    storages, made_at = tensors.column("storage"), tensors.column("op")
    found: dict[int, list[int]] = {}
    ones = set[int]()
    for tensor, storage in enumerate(storages):
        leaf = leaf_on.get(storage, tensor)
        if leaf == tensor or made_at[tensor] > made_at[leaf]:
            continue
        if _is_binary(index, tensor, _DEEPEST):
            found.setdefault(leaf, []).append(made_at[tensor])
        elif index.call_name(made_at[tensor]).rpartition(".")[2] in _ONES:
            ones.add(leaf)
    for op, tensor, _, _ in all_writes(index):
        leaf = leaf_on.get(storages[tensor], -1)
        name = index.call_name(op).rpartition(".")[2]
        if leaf >= 0 and (name in _COPIES or (name in _TAKES_OUT and (leaf in ones or leaf in found))):
            given = [one for one in index.uses.of(op) if storages[one] != storages[tensor]]
            if any(_is_binary(index, one, _DEEPEST) for one in given):
                found.setdefault(leaf, []).append(op)
    leaves = set(leaf_on.values())
    for op, tensor, _ in replaced_memory(index):
        if tensor in leaves and any(_is_binary(index, one, _DEEPEST) for one in index.uses.of(op) if one != tensor):
            found.setdefault(tensor, []).append(op)
    return found


def _is_binary(index: Index, tensor: int, allowed: int) -> bool:
    """Whether a tensor holds zeros and ones, or truths, by the calls that made it."""
    tensors = index.recording.tensors
    if index.is_bool(tensor):
        return True
    op = tensors.column("op")[tensor]
    if not allowed or op >= index.op_count or tensor not in index.tensors_made(op):
        return False
    name, taken = index.call_name(op).rpartition(".")[2], index.uses.of(op)
    if name in _COMPARES:
        return True
    if name in _TRIANGLES and len(taken) == 1:
        return index.call_name(tensors.column("op")[taken[0]]).rpartition(".")[2] in _ONES
    return name in _AS_IT_IS and len(taken) == 1 and _is_binary(index, taken[0], allowed - 1)
