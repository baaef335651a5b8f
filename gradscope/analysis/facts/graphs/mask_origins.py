"""What masks of attention come from: a comparison with the padding, or with lengths, or a triangle of ones.

A mask is of truth values, or numbers that are added to scores: the least there are where something is to be left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.graphs.length_masks import LengthMasks
from gradscope.analysis.index import Index

LEAST = re.compile(
    r"-\s*(float\(.inf.\)|\S*\binf\b|\d+(\.\d*)?e\d+|\d{4,})|float\(.-inf.\)|finfo\(.*\)\.min", re.IGNORECASE
)
"""What is filled in so that nothing comes of it in a softmax."""
_LAID_OUT = frozenset(
    f"Tensor.{name}"
    for name in (
        *("__getitem__", "unsqueeze", "squeeze", "view", "reshape", "expand", "expand_as", "repeat"),
        *("bool", "to", "clone", "contiguous", "repeat_interleave", "permute", "transpose"),
    )
)
_CONVERTED = frozenset(f"Tensor.{name}" for name in ("float", "double", "half", "bfloat16", "long", "int", "type_as"))
_TURNED = frozenset(("Tensor.__invert__", "Tensor.logical_not", "Tensor.bitwise_not"))
_BOTH = frozenset(("Tensor.__and__", "Tensor.logical_and", "Tensor.bitwise_and"))
_EITHER = frozenset(("Tensor.__or__", "Tensor.logical_or", "Tensor.bitwise_or"))
_EQUAL = frozenset(("Tensor.__eq__", "Tensor.eq"))
_OTHER = frozenset(("Tensor.__ne__", "Tensor.ne"))
_FILLS = frozenset(("Tensor.masked_fill", "Tensor.masked_fill_"))
_TRIANGLES = frozenset(("Tensor.tril", "Tensor.triu"))
_PADDING = re.compile(r"pad|(==|!=)\s*0$|\b(eq|ne)\([^,]*\b0\)$", re.IGNORECASE)
"""A comparison with what stands for padding."""
_FALSE, _TRUE = re.compile(r"==\s*(0|False)$|eq\((0|False)\)$"), re.compile(r"==\s*(1|True)$|eq\((1|True)\)$")
_LESS_THAN_ONE = re.compile(r"^\(?\s*1(\.0*)?\s*-")
_ZERO = re.compile(r"0(\.0*)?")
_FARTHEST = 16


class Origin(NamedTuple):
    """What a mask, or a part of one, comes from."""

    op: int
    """The comparison, or the call that gave the triangle."""
    attends_to_padding: bool
    """What is attended to is the padding; for a mask that is added, and leaves nothing out, this means nothing."""
    leaves_nothing_out: bool
    """Its zeros and ones are added to scores as they are."""
    converted: int
    """The call that made numbers of truth values; the origin's own where none did."""


class MaskOrigins:
    """Where the masks of a recording come from."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._lengths = LengthMasks(index)

    def of(self, mask: int, attends: bool, is_added: bool = False) -> Iterator[Origin]:
        """The origins of a mask.

        Args:
            mask: The tensor.
            attends: Whether attention goes where it is True; else it leaves that out.
            is_added: It is numbers that are added to the scores.
        """
        todo = [(mask, attends, is_added, -1)]
        for tensor, keeps, adds, converted in todo:
            op = self._index.made_by(tensor)
            if len(todo) > _FARTHEST or not 0 <= op < self._index.op_count or tensor in self._written:
                continue
            found = self._at(op, keeps, adds, converted)
            if found is not None:
                yield found
            else:
                todo += self._before(op, tensor, keeps, adds, converted)

    def _at(self, op: int, keeps: bool, adds: bool, converted: int) -> Origin | None:
        index, taken, method = self._index, list(self._index.uses.of(op)), self._index.method(op)
        last = converted if converted >= 0 else op
        is_within = self._lengths.is_within(op)
        if is_within is not None:
            return Origin(op, is_within != keeps, adds, last)
        if adds and method in _TRIANGLES and len(taken) == 1:
            is_of_ones = index.method(index.made_by(taken[0])) in ("Tensor.ones", "Tensor.ones_like")
            return Origin(op, False, True, last) if is_of_ones else None
        if method in _EQUAL | _OTHER and len(taken) == 1 and not index.is_bool(taken[0]):
            storage = index.recording.tensors.column("storage")[taken[0]]
            if storage in self._looked_up and _PADDING.search(index.span_source(op).strip()):
                return Origin(op, (method in _EQUAL) == keeps, adds, last)
        return None

    def _before(
        self, op: int, tensor: int, keeps: bool, adds: bool, converted: int
    ) -> list[tuple[int, bool, bool, int]]:
        """What a call took, from which its result has what it lets through."""
        index, taken, method = self._index, list(self._index.uses.of(op)), self._index.method(op)
        source = index.span_source(op).strip()
        if adds and (least := self._filled(op, method, source)) is not None:
            return [(least[0], least[1], False, -1)]
        if adds and method in _FILLS and len(taken) == 2 and _ZERO.fullmatch(_last_argument(source)):
            return [(taken[0], keeps, True, converted)]
        if len(taken) == 2 and method in (_BOTH if keeps else _EITHER):
            return [(one, keeps, adds, converted) for one in taken]
        if len(taken) != 1:
            return []
        was_bool = index.is_bool(taken[0])
        if adds and was_bool and not index.is_bool(tensor):
            converted = op
        if method in _TURNED or (method in _EQUAL and _FALSE.search(source)):
            return [(taken[0], not keeps, adds, converted)]
        if method in ("Tensor.__rsub__", "Tensor.rsub") and _LESS_THAN_ONE.search(source):
            return [(taken[0], not keeps, adds, converted if converted >= 0 else op)]
        is_kept = method in _LAID_OUT | _CONVERTED or (method in _EQUAL and _TRUE.search(source))
        return [(taken[0], keeps, adds, converted)] if is_kept else []

    def _filled(self, op: int, method: str, source: str) -> tuple[int, bool] | None:
        """The mask of which a call makes the least numbers, and whether that leaves out where it is False."""
        taken = list(self._index.uses.of(op))
        if method in _FILLS and len(taken) == 2 and LEAST.search(_last_argument(source)):
            return taken[1], False
        if method == "Tensor.mul" and len(taken) == 1 and LEAST.search(_factor(source)):
            return taken[0], False
        if method == "Tensor.where" and len(taken) == 1:
            values = _arguments(source)[-2:]
            least = [bool(LEAST.search(value)) for value in values]
            return (taken[0], least[1]) if sum(least) == 1 else None
        return None

    @cached_property
    def _looked_up(self) -> set[int]:
        """The memory of what embeddings look up."""
        index, storages = self._index, self._index.recording.tensors.column("storage")
        taken = (next(iter(index.uses.of(op)), -1) for op in index.calls_of("F.embedding".__eq__))
        return {storages[one] for one in taken if one >= 0 and storages[one] >= 0}

    @cached_property
    def _written(self) -> set[int]:
        """Tensors that were written after they were made: what their origin says of them holds no more."""
        changes, made_at = self._index.recording.changes, self._index.recording.tensors.column("op")
        ops, tensors = changes.column("op"), changes.column("tensor")
        return {tensors[row] for row in self._index.written_rows if ops[row] != made_at[tensors[row]]}


def _arguments(source: str) -> list[str]:
    """The arguments of a call, as its source has them; none for other expressions."""
    try:
        tree = ast.parse(source, mode="eval").body
    except SyntaxError:
        return []
    if not isinstance(tree, ast.Call):
        return []
    return [ast.unparse(one) for one in (*tree.args, *(word.value for word in tree.keywords))]


def _last_argument(source: str) -> str:
    return (_arguments(source) or [""])[-1]


def _factor(source: str) -> str:
    """The number by which a product multiplies, ``-1e9`` of ``mask * -1e9``; empty where there is none."""
    try:
        tree = ast.parse(source, mode="eval").body
    except SyntaxError:
        return ""
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Mult):
        sides = [ast.unparse(one) for one in (tree.left, tree.right)]
        return next((one for one in sides if LEAST.match(one)), "")
    return _last_argument(source)
