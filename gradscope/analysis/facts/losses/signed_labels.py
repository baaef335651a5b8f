"""Losses that take labels of 1 and -1 and were given 0 and 1.

That the labels are 0 and 1 is known by how they were made: converted from a comparison, a remainder of 2, a draw of two
numbers, ones and zeros put together; not where anything was written into them, or computed of them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import parsed
from gradscope.recording import NONE

_TARGETS = {
    "F.margin_ranking_loss": 2,
    "F.cosine_embedding_loss": 2,
    "F.hinge_embedding_loss": 1,
    "F.soft_margin_loss": 1,
}
"""Which of the tensors that they take are the labels."""

_PARTS = frozenset(
    """
    view reshape flatten squeeze unsqueeze transpose permute contiguous __getitem__ expand expand_as repeat split chunk
    unbind detach clone index_select repeat_interleave
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
_CONVERTS = frozenset(["float", "double", "half", "long", "int", "to", "type", "type_as", "bfloat16"])
_ZEROS = frozenset(("zeros", "zeros_like"))
_ALIKE = _ZEROS | {"ones", "ones_like"}
_STEPS = 12


class SignedLabels(NamedTuple):
    """One call of such a loss."""

    op: int
    made: int
    """The op that gave the labels their numbers."""


def labels_without_sign(index: Index, passes: Passes) -> Iterator[SignedLabels]:
    """The last call of each statement of which a backward pass started."""
    calls = index.calls_of(_TARGETS.__contains__)
    if not calls:
        return
    storages = index.recording.tensors.column("storage")
    written = {storages[tensor] for _, tensor, _, _ in all_writes(index)}
    found: dict[int, SignedLabels] = {}
    for op in calls:
        taken, place = list(index.uses.of(op)), _TARGETS[index.func(op)]
        nodes = [index.node_after(one) for one in index.tensors_made(op)]
        if len(taken) != place + 1 or not any(node >= 0 and passes.first_walked_at[node] >= 0 for node in nodes):
            continue
        made = _made_of_zeros_and_ones(index, taken[place], written)
        if made >= 0:
            found[index.op_statement[op]] = SignedLabels(op, made)
    yield from found.values()


def _made_of_zeros_and_ones(index: Index, tensor: int, written: set[int]) -> int:
    """The op that gave a tensor numbers that are 0 or 1, some of them 0 as far as that is known; NONE for others."""
    storages, made = index.recording.tensors.column("storage"), NONE
    for _ in range(_STEPS):
        op = index.made_by(tensor)
        if storages[tensor] in written or not 0 <= op < index.op_count:
            return NONE
        name, taken = index.func(op).rpartition(".")[2], list(index.uses.of(op))
        if name not in _PARTS and made < 0:
            made = op
        if index.is_bool(tensor) or _gives_zeros_and_ones(index, op):
            return made if made >= 0 else op
        if (name not in _PARTS and name not in _CONVERTS) or not taken:
            return NONE
        tensor = taken[0]
    return NONE


def _gives_zeros_and_ones(index: Index, op: int) -> bool:
    name = index.func(op).rpartition(".")[2]
    if name in ("cat", "concat", "hstack", "stack"):
        made = [
            index.func(index.made_by(one)).rpartition(".")[2] for one in index.uses.of(op) if index.made_by(one) >= 0
        ]
        return len(made) == len(index.uses.of(op)) and _ALIKE.issuperset(made) and not _ZEROS.isdisjoint(made)
    if name == "bernoulli":
        return True
    return name in _BY_NUMBERS and _BY_NUMBERS[name](index.span_source(op, exact=True))


def _call(source: str) -> ast.expr | None:
    tree = parsed(source)
    return tree.body[0].value if tree is not None and tree.body and isinstance(tree.body[0], ast.Expr) else None


def _number(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def _is_remainder_of_two(source: str) -> bool:
    node = _call(source)
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) and _number(node.right) == 2


def _draws_two(source: str) -> bool:
    node = _call(source)
    given = [_number(one) for one in node.args] if isinstance(node, ast.Call) else []
    return given[:2] == [0, 2] or (given[:1] == [2] and given[1:2] == [None])


def _chooses(source: str) -> bool:
    node = _call(source)
    given = [_number(one) for one in node.args[1:]] if isinstance(node, ast.Call) else []
    return len(given) == 2 and sorted(map(str, map(_as_float, given))) == ["0.0", "1.0"]


def _as_float(value: object) -> object:
    return float(value) if isinstance(value, int | float) else value


_BY_NUMBERS = {
    "remainder": _is_remainder_of_two,
    "__mod__": _is_remainder_of_two,
    "randint": _draws_two,
    "where": _chooses,
}
"""Functions that give 0 and 1 for some numbers in the call."""
