"""Sums and means over all that a normalisation gave: a constant, whatever goes in, from which no gradient comes back.

A batch norm takes the mean of each channel away over the batch, a softmax gives weights whose sum is 1. Who sums over
all of it takes back what made the numbers differ. Between the two are only other sums and means, and changes of shape.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.shapes import shape_of
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.rows import Field

RUNS = 2
"""Passes through such a sum of one statement, from which on it is reported."""

_SUMS = re.compile(r"(Mean|Sum)Backward[01]")
_SHAPES = re.compile(
    r"(View|UnsafeView|ReshapeAlias|Squeeze|Unsqueeze|Permute|Transpose|T|Clone|Neg|Alias|ToCopy)Backward\d"
)
_BY_BATCH = ("NativeBatchNormBackward0", "CudnnBatchNormBackward0", "MiopenBatchNormBackward0")
_BY_SAMPLE = ("NativeLayerNormBackward0", "NativeGroupNormBackward0")
_SOFTMAX = "SoftmaxBackward0"
_DIFFERENCE, _QUOTIENT = "SubBackward0", "DivBackward0"


class SumOfNormalized(NamedTuple):
    """The last one of a statement that normalises."""

    normalized: int
    """The op that did."""
    summed: int
    """The op of the last sum, which gives one number."""
    passes: int
    is_softmax: bool
    is_centred: bool
    """The program took the mean away itself."""


def sums_of_normalized(index: Index, passes: Passes) -> Iterator[SumOfNormalized]:
    """One for each statement that normalises and each that sums, where passes went through."""
    nodes, text = index.recording.nodes, index.recording.text
    ops, kinds = nodes.column("op"), {name: text(name) for name in set(nodes.column("name"))}
    names = [kinds[name] for name in nodes.column("name")]
    if not any(_is_norm(name) or name == _DIFFERENCE for name in kinds.values()):
        return
    in_training = _norms_in_training(index)
    found: dict[tuple[int, int], list[tuple[int, int]]] = {}
    ways: Counter[int] = Counter()
    for node, name in enumerate(names):
        if not _SUMS.fullmatch(name) or passes.first_walked_at[node] < 0 or not _is_one_number(index, node):
            continue
        way = _way_to_norm(index, names, node)
        if not way or not _is_constant(index, way[-1], names[way[-1]], in_training):
            continue
        end, ways = way[-1], ways or _ways_to(index, passes)
        if any(ways[one] > 1 for one in way):
            continue  # (gradients come by another way too: of a variance, beside the sum)
        statements = index.op_statement[ops[end]], index.op_statement[ops[node]]
        if NOWHERE not in statements:
            found.setdefault(statements, []).append((end, node))
    for several in found.values():
        walked = {passes.first_walked_at[node] for _, node in several}
        if len(walked) >= RUNS:
            end, node = several[-1]
            of = names[end]
            yield SumOfNormalized(ops[end], ops[node], index.times(walked), of == _SOFTMAX, of == _DIFFERENCE)


def _is_norm(name: str) -> bool:
    return name == _SOFTMAX or name in _BY_BATCH or name in _BY_SAMPLE


def _is_one_number(index: Index, node: int) -> bool:
    tensor = index.node_tensor[node]
    layouts = index.recording.layouts
    return tensor >= 0 and index.recording.text(layouts[index.recording.tensors.column("layout")[tensor]].shape) == "()"


def _ways_to(index: Index, passes: Passes) -> Counter[int]:
    """For each node the number of ways by which gradients came to it."""
    walked = (node for node, at in enumerate(passes.first_walked_at) if at >= 0)
    return Counter(after for node in walked for after in index.edges.of(node))


def _way_to_norm(index: Index, names: list[str], node: int) -> list[int]:
    """The nodes behind a sum as far as that of the normalisation; empty where something else is between."""
    way: list[int] = []
    while True:
        following = list(index.edges.of(node))
        if names[node] == _QUOTIENT and _is_by_one_number(index, node):
            following = following[:1]  # (the other way leads to the scale: its gradient is a sum over the same)
        if len(following) != 1 or following[0] < 0:
            return []
        node = following[0]
        way.append(node)
        if _is_norm(names[node]) or names[node] == _DIFFERENCE:
            return way
        if names[node] == _QUOTIENT and _is_by_one_number(index, node):
            continue
        if not _SUMS.fullmatch(names[node]) and not _SHAPES.fullmatch(names[node]):
            return []


def _is_by_one_number(index: Index, node: int) -> bool:
    """Whether a division is by one number, or by none that is a tensor."""
    op = index.recording.nodes.column("op")[node]
    taken = list(index.uses.of(op)) if 0 <= op < index.op_count else []
    return 0 < len(taken) < 3 and all(not shape_of(index, one) for one in taken[1:])


def _takes_its_mean(index: Index, op: int) -> bool:
    """Whether a difference takes the mean of a tensor, over all of it, away from that tensor."""
    taken = list(index.uses.of(op))
    made = index.made_by(taken[1]) if len(taken) == 2 else NONE
    if not 0 <= made < index.op_count or index.func(op).rpartition(".")[2] != "sub" or shape_of(index, taken[1]):
        return False
    return index.func(made).rpartition(".")[2] == "mean" and list(index.uses.of(made)) == [taken[0]]


def _norms_in_training(index: Index) -> set[int]:
    """Ops that did something with running statistics: a batch norm in training mode."""
    columns = (index.recording.changes.column(name) for name in ("op", "field"))
    return {op for op, field in zip(*columns, strict=True) if field == Field.WRITTEN}


def _is_constant(index: Index, node: int, name: str, in_training: set[int]) -> bool:
    """Whether the sum over what a node gave is the same whatever went in.

    A batch norm's weight multiplies what has the mean 0 already; a layer norm's has another factor for each number.
    """
    op = index.recording.nodes.column("op")[node]
    if name == _SOFTMAX:
        return True
    if name == _DIFFERENCE:
        return _takes_its_mean(index, op)
    taken, following = len(index.uses.of(op)), list(index.edges.of(node))
    if name in _BY_SAMPLE:
        return taken == 1
    return op in in_training or taken == 1 or (taken == 3 and len(following) > 1 and following[1] >= 0)
