"""Where a part of what was taken from a tensor meets the same part of that tensor, on whose memory it is.

``table[rows] = before[rows]`` copies rows onto themselves where ``before`` is the memory of ``table``, and so does
``table.copy_(torch.where(rows, before, table))``. What the same part is, the index tensors show, or the text where one
statement has both. Mixes that autograd tracks are left out: ``torch.where(rows, w, w.detach())`` trains some rows only.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import REQUIRES_GRAD

_SELECTS = frozenset(f"Tensor.{name}" for name in ("__getitem__", "index_select", "masked_select", "take", "gather"))
PUTS_PART = frozenset(f"Tensor.{name}" for name in ("__setitem__", "index_copy_", "index_put_", "masked_scatter_"))
_PUTS_ALL = frozenset(("Tensor.copy_", "Tensor.data.__set__", "Tensor.set_", "Tensor.__setitem__"))
_MIXES = frozenset(f"Tensor.{name}" for name in ("where", "add", "lerp"))
_KEEPS_VALUES = frozenset(f"Tensor.{name}" for name in ("detach", "data.__get__", "clone", "contiguous", "to"))
_TAKES = frozenset(("Tensor.detach", "Tensor.data.__get__"))
_FOLLOWED = 3
"""Calls that leave the values as they are (``clone()``) between a part and where it goes."""
_OTHERWISE_EACH_TIME = re.compile(r"rand|multinomial|bernoulli|next\(|pop\(|shuffle|sample")


class PartsPutBack:
    """Finds the calls at which a part of a tensor meets itself.

    Args:
        index: The recording.
        is_same: Whether two tensors are the same elements of one memory block.
        is_compared: Whether the result of a function (by its name) is known beforehand where it is given the same
            elements twice.
    """

    def __init__(self, index: Index, is_same: Callable[[int, int], bool], is_compared: Callable[[str], object]) -> None:
        self._index = index
        self._is_same = is_same
        self._is_compared = is_compared

    def met_at(self, taken: int, op: int) -> int:
        """The call at which what an op made of a taken tensor meets what that was taken from; NONE for none."""
        index, method = self._index, self._index.method(op)
        made = index.made.of(op)
        if len(made) != 1:
            return NONE
        if method in _SELECTS and index.uses.of(op)[0] == taken:
            return self._part_meets_part(taken, op, made[0])
        if method in _TAKES:  # (of a ``detach()`` there may be several, one of the other)
            statement = index.op_statement[op]
            later = (one for one in index.users.of(made[0]) if index.op_statement[one] == statement)
            return next((at for at in (self.met_at(made[0], one) for one in later) if at >= 0), NONE)
        return self._mixed_onto_itself(taken, op, made[0])

    def _part_meets_part(self, taken: int, op: int, part: int) -> int:
        """``table[rows] = taken[rows]``, and ``taken[rows] - table[rows]``."""
        index = self._index
        for user, given in self._goes_to(part, index.op_statement[op]):
            uses = index.uses.of(user)
            if index.method(user) in PUTS_PART:
                if uses[-1] == given and self._is_same(taken, uses[0]) and self._is_one_part(op, user):
                    return user
            elif self._is_compared(index.func(user)) and any(
                self._is_same_part(taken, op, part, other) for other in uses if other != given
            ):
                return user
        return NONE

    def _is_same_part(self, taken: int, op: int, part: int, other: int) -> bool:
        made = self._index.recording.tensors.column("op")[other]
        if self._index.op_statement[made] != self._index.op_statement[op]:
            return False
        if self._index.method(made) != self._index.method(op):
            return self._is_same(part, other)
        selected = self._index.uses.of(made)[0]
        return self._is_same(part, other) or (self._is_same(taken, selected) and self._is_one_part(op, made))

    def _is_one_part(self, op: int, other: int) -> bool:
        """Whether two calls of a statement select by one index tensor each, or as the text says by the same index."""
        index = self._index
        selectors = [list(index.uses.of(one)[1:]) for one in (op, other)]
        if index.method(other) in PUTS_PART:
            selectors[1].pop()
        if selectors[0] and selectors[0] == selectors[1]:
            return True
        if index.method(other) not in ("Tensor.__setitem__", index.method(op)):
            return False
        texts = [_selected_by(index.span_source(one, exact=True)) for one in (op, other)]
        return bool(texts[0]) and texts[0] == texts[1] and not _OTHERWISE_EACH_TIME.search(texts[0])

    def _mixed_onto_itself(self, taken: int, op: int, result: int) -> int:
        """``table.copy_(torch.where(rows, taken, table))``, ``table.data = keep * table + (1 - keep) * taken``."""
        index = self._index
        statement = index.op_statement[op]
        if index.method(op) == "Tensor.mul":
            sums = [one for one in index.users.of(result) if one > op and index.method(one) == "Tensor.add"]
            if not sums or index.op_statement[sums[0]] != statement or len(index.made.of(sums[0])) != 1:
                return NONE
            op, result = sums[0], index.made.of(sums[0])[0]
        flags = index.recording.tensors.column("flags")
        if index.method(op) not in _MIXES or flags[result] & REQUIRES_GRAD or not self._is_of_one(taken, op):
            return NONE
        for user, given in self._goes_to(result, statement):
            uses = index.uses.of(user)
            is_put = index.method(user) in _PUTS_ALL and len(uses) == 2 and uses[1] == given
            if is_put and self._is_same(taken, uses[0]):
                return user
        return NONE

    def _is_of_one(self, taken: int, op: int) -> bool:
        """Whether a call mixes a taken tensor with nothing but what it was taken from."""
        index, made_at = self._index, self._index.recording.tensors.column("op")
        mixed = list(index.uses.of(op))
        if index.method(op) != "Tensor.add":
            return taken in mixed and any(self._is_same(taken, one) for one in mixed)
        origins = []
        for one in mixed:
            is_scaled = (
                index.method(made_at[one]) == "Tensor.mul"
                and index.op_statement[made_at[one]] == (index.op_statement[op])
            )
            among = list(index.uses.of(made_at[one])) if is_scaled else [one]
            origins.append(next((each for each in among if each == taken or self._is_same(taken, each)), NONE))
        return len(origins) == 2 and taken in origins and any(self._is_same(taken, one) for one in origins if one >= 0)

    def _goes_to(self, tensor: int, statement: int) -> Iterator[tuple[int, int]]:
        """The calls of a statement that take a tensor, or what others of it made with the same values; and which."""
        index = self._index
        todo = [(tensor, 0)]
        while todo:
            one, depth = todo.pop()
            for user in index.users.of(one):
                if index.op_statement[user] != statement:
                    continue
                yield user, one
                if depth < _FOLLOWED and index.method(user) in _KEEPS_VALUES:
                    todo += [(made, depth + 1) for made in index.made.of(user)]


def _selected_by(text: str) -> str:
    """The index in a subscript's text, or what else a call has that selects; empty for anything else."""
    try:
        node = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    if isinstance(node, ast.Subscript):
        return ast.unparse(node.slice)
    if isinstance(node, ast.Call) and node.args:
        return ", ".join(map(ast.unparse, (*node.args, *(keyword.value for keyword in node.keywords))))
    return ""
