"""What gave trained leaves other values than the steps of their optimizers did."""

from __future__ import annotations

from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.recording.flags import EXTERNAL


def changed_leaves(index: Index, lives: GradientLives) -> dict[int, list[tuple[int, int]]]:
    """For each stepped parameter what gave it other values than a step did: the op, and the tensor with the values.

    The value is -1 where an op wrote in place what is no copy of another tensor.
    """
    found: dict[int, list[tuple[int, int]]] = {}
    shapes = index.recording.layouts.column("shape")
    leaves = lives.steps
    for leaf, moves in index.moves.items():
        for op, _ in moves if leaf in leaves else ():
            is_set = op < index.op_count and index.func(op) == "Tensor.data.__set__"
            found.setdefault(leaf, []).append((op, index.uses.of(op)[-1] if is_set else -1))
    on: dict[int, list[tuple[int, int]]] = {}
    for leaf in leaves:
        for begin, storage in [(-1, index.recording.tensors.column("storage")[leaf]), *index.moves.get(leaf, ())]:
            on.setdefault(storage, []).append((begin, leaf))
    steps = {leaf: frozenset(ops) for leaf, ops in leaves.items()}
    made_at, flags = (index.recording.tensors.column(name) for name in ("op", "flags"))
    for op, tensor, _, _ in all_writes(index):
        if op >= index.op_count or (op == made_at[tensor] and not flags[tensor] & EXTERNAL):
            continue  # (a view has the version of its base from birth)
        for begin, leaf in on.get(index.storage_at(tensor, op), ()):
            if op in steps[leaf] or op <= begin or index.storage_at(leaf, op) != index.storage_at(tensor, op):
                continue
            taken = list(index.uses.of(op))
            is_copy = index.func(op) == "Tensor.copy_" and len(taken) == 2
            is_copy = is_copy and shapes[index.layout_at(taken[0], op)] == shapes[index.layout_at(leaf, op)]
            found.setdefault(leaf, []).append((op, taken[1] if is_copy else -1))
    return {leaf: sorted(set(changed)) for leaf, changed in found.items()}
