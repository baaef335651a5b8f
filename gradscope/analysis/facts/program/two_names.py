"""One tensor, or one memory block, that a program treats as two: it has two names, and no copy was made.

Two names for one thing are no mistake. That two things were meant shows where one statement uses both:

- it mixes the one into the other in place (``t.mul_(1 - tau).add_(tau * p)``);
- it compares, subtracts or copies the one from the other after a write;
- after a write in place through a plain name, a statement of the same function reads both it and the other name.

Where the second name was given is read from the text of the program.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.writes import all_writes, is_step
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.names.given_names import (
    Given,
    function_around,
    keys_from_one,
    keys_of_one,
    second_names,
    walked_together,
)
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, PARAMETER
from gradscope.recording.rows import BindingKind, OpKind

_BESIDE = re.compile(
    r"(Tensor|torch)\.(sub|subtract|rsub|__rsub__|equal|allclose|isclose|eq|ne|dist|__eq__|__ne__|copy_)"
    r"|F\.(mse_loss|l1_loss|smooth_l1_loss)"
)
"""Calls whose result is known beforehand where both tensors are one."""
_MIXES = re.compile(r"Tensor\.(add_|lerp_|copy_|__iadd__|mul_|sub_)|torch\._foreach_(add_|lerp_)")


class TwoNames(NamedTuple):
    """One tensor that a statement uses as two."""

    tensors: tuple[int, ...]
    names: tuple[str, str]
    op: int
    """The last op of that statement."""
    written: int
    """A write in place that changed both."""
    file: int
    given: tuple[Given, ...]
    """Where the text gives the second name."""


class _UsedAsTwo(NamedTuple):
    op: int
    written: int
    names: tuple[str, str]
    is_plain: bool = False
    """Only plain names, in one function, show it."""
    is_mixed: bool = False
    """One was mixed into the other: then a parameter of two modules may be meant to be two."""


def two_names(index: Index, held: dict[int, list[tuple[int, int, int]]]) -> list[TwoNames]:
    """One for each place that gave a second name to what statements then use as two things.

    Args:
        index: The recording.
        held: For each tensor the names under which it was seen, with op and span.
    """
    return _NamesFinder(index, held).find()


class _NamesFinder:
    def __init__(self, index: Index, held: dict[int, list[tuple[int, int, int]]]) -> None:
        self._index = index
        self._held = held

    def find(self) -> list[TwoNames]:
        found: dict[tuple[int, int], TwoNames] = {}
        for tensor, use in self._uses():
            for file, given in self._given(tensor, use):
                # Of what one statement uses as two there is one cause: a loop runs it for each of a module's tensors.
                key = (file, self._index.op_statement[use.op])
                known = found.get(key)
                if known is not None:
                    given = tuple(dict.fromkeys((*known.given, *given)))
                tensors = (*known.tensors, tensor) if known is not None else (tensor,)
                found[key] = TwoNames(tensors, use.names, use.op, use.written, file, given)
        return list(found.values())

    def _uses(self) -> Iterator[tuple[int, _UsedAsTwo]]:
        """Tensors that a statement uses as two."""
        for tensor, writes in self._writes.items():
            use = self._mixed(tensor) or self._compared(tensor, writes) or self._both_read(tensor, writes)
            if use is not None:
                yield tensor, use

    @cached_property
    def _writes(self) -> dict[int, list[int]]:
        index = self._index
        made_at, flags = (index.recording.tensors.column(name) for name in ("op", "flags"))
        found: dict[int, list[int]] = {}
        for op, tensor, _, _ in all_writes(index):
            is_born_here = op == made_at[tensor] and not flags[tensor] & EXTERNAL
            if op < index.op_count and not is_born_here and index.op_statement[op] != NOWHERE:
                found.setdefault(tensor, []).append(op)
        return found

    @cached_property
    def _loads(self) -> dict[int, dict[int, set[str]]]:
        """For each tensor that was written: the names that statements read it by, by op."""
        bindings, text = self._index.recording.bindings, self._index.recording.text
        columns = (bindings.column(name) for name in ("tensor", "name", "op", "kind"))
        found: dict[int, dict[int, set[str]]] = {}
        for tensor, name, op, kind in zip(*columns, strict=True):
            if tensor in self._writes and kind == BindingKind.LOAD and op < self._index.op_count:
                found.setdefault(tensor, {}).setdefault(op, set()).add(text(name))
        return found

    def _pair(self, tensor: int, op: int) -> tuple[str, str] | None:
        """Two names, each ending in its own, by which the statement of an op reads a tensor."""
        names = sorted(self._loads.get(tensor, {}).get(op, ()))
        for position, one in enumerate(names):
            for other in names[position + 1 :]:
                if one.rpartition(".")[2] != other.rpartition(".")[2]:
                    return one, other
        return None

    def _mixed(self, tensor: int) -> _UsedAsTwo | None:
        """A statement that writes a parameter by one name with what it made of it by another."""
        index = self._index
        if not index.recording.tensors.column("flags")[tensor] & PARAMETER:
            return None
        for op in self._writes[tensor]:
            pair = self._pair(tensor, op) if _MIXES.fullmatch(index.func(op)) and not is_step(index, op) else None
            if pair is None:
                continue
            others = [use for use in index.uses.of(op) if use != tensor]
            is_own = index.uses.of(op)[1:2] == [tensor] or any(self._is_made_of(use, tensor, op) for use in others)
            if is_own and not self._shares_in_part(op):
                return _UsedAsTwo(op, op, pair, is_mixed=True)
        return None

    def _is_made_of(self, made: int, tensor: int, op: int) -> bool:
        """Whether a statement made a tensor from another one in the run that an op is part of."""
        made_at = self._index.recording.tensors.column("op")[made]
        is_here = made_at < op and self._index.op_statement[made_at] == self._index.op_statement[op]
        return is_here and any(
            use == tensor or (use != made and self._is_made_of(use, tensor, made_at))
            for use in self._index.uses.of(made_at)
        )

    def _compared(self, tensor: int, writes: list[int]) -> _UsedAsTwo | None:
        """An op that takes a tensor beside itself, after a write."""
        index, funcs = self._index, self._index.recording.ops.column("func")
        for op in index.users.of(tensor):
            if op <= writes[0] or funcs[op] not in self._beside or list(index.uses.of(op)).count(tensor) < 2:
                continue
            if self._is_checked(op) or self._shares_in_part(op):
                continue
            pair = self._pair(tensor, op) or self._two_paths(tensor)
            if pair is not None:
                return _UsedAsTwo(op, writes[bisect_left(writes, op) - 1], pair)
        return None

    @cached_property
    def _beside(self) -> frozenset[int]:
        """Texts of the names of calls whose result is known beforehand where both tensors are one."""
        text = self._index.recording.text
        return frozenset(
            func for func in set(self._index.recording.ops.column("func")) if _BESIDE.fullmatch(text(func))
        )

    def _two_paths(self, tensor: int) -> tuple[str, str] | None:
        """Two names of a tensor that are parts of objects."""
        names = dict.fromkeys(self._index.recording.text(name) for name, _, _ in self._held.get(tensor, ()))
        paths = [one for one in names if "." in one or "[" in one]
        return (paths[0], paths[1]) if len(paths) > 1 else None

    def _shares_in_part(self, op: int) -> bool:
        """Whether a statement copies other tensors too: then a part is shared, and its copy onto itself is harmless."""
        index = self._index
        if index.func(op) not in ("Tensor.copy_", "Tensor.lerp_"):
            return False
        key = (index.op_statement[op], index.recording.ops.column("func")[op])
        return any(len(set(index.uses.of(one))) > 1 and not self._is_self_made(one) for one in self._copies[key])

    @cached_property
    def _copies(self) -> dict[tuple[int, int], list[int]]:
        """Ops that copy, by statement and function."""
        index, found = self._index, dict[tuple[int, int], list[int]]()
        for op, (statement, func) in enumerate(
            zip(index.op_statement, index.recording.ops.column("func"), strict=True)
        ):
            if func in self._copying:
                found.setdefault((statement, func), []).append(op)
        return found

    @cached_property
    def _copying(self) -> frozenset[int]:
        text = self._index.recording.text
        funcs = set(self._index.recording.ops.column("func"))
        return frozenset(func for func in funcs if text(func) in ("Tensor.copy_", "Tensor.lerp_"))

    def _is_self_made(self, op: int) -> bool:
        """Whether a statement made from a tensor itself what it copies onto it."""
        written, *others = self._index.uses.of(op)
        return any(self._is_made_of(use, written, op) for use in others)

    def _is_checked(self, op: int) -> bool:
        """Whether a statement asserts something: that two are one may be what it checks."""
        return self._index.op_place(op).source.lstrip().startswith("assert")

    def _both_read(self, tensor: int, writes: list[int]) -> _UsedAsTwo | None:
        """A statement that reads two plain names of a tensor after a call of the program's wrote it in place."""
        index, kinds = self._index, self._index.recording.ops.column("kind")
        if index.recording.tensors.column("flags")[tensor] & PARAMETER:
            return None
        own = [op for op in writes if kinds[op] == OpKind.CALL]
        for op in self._loads.get(tensor, {}):
            pair = self._pair(tensor, op)
            if pair is None or not all(name.isidentifier() for name in pair):
                continue
            before = own[: bisect_left(own, op)]
            written = next((one for one in reversed(before) if index.op_statement[one] != index.op_statement[op]), NONE)
            if written >= 0:
                return _UsedAsTwo(op, written, pair, is_plain=True)
        return None

    def _given(self, tensor: int, use: _UsedAsTwo) -> Iterator[tuple[int, tuple[Given, ...]]]:
        """Where the second name was given; nothing where the text does not show it, or shows too many places."""
        index = self._index
        names = {index.recording.text(name) for name, _, _ in self._held.get(tensor, ())}
        wanted = set(use.names) if use.is_plain else names | self._names_by_owner(names, use)
        places = [
            (number, given)
            for number, file in enumerate(index.recording.files)
            if file.is_user
            for given in second_names(file.text, wanted, same_part=use.is_mixed)
        ]
        if use.is_plain:
            statement = index.statements[index.op_statement[use.op]]
            first, last = function_around(index.recording.files[statement.file].text, statement.line)
            written = index.statements[index.op_statement[use.written]].line
            places = [
                one
                for one in places
                if one[0] == statement.file and first <= one[1].line < written <= last and one[1].line < statement.line
            ]
        exact = [one for one in places if one[1].of in names and one[1].name in names] or places
        files = {file for file, _ in exact}
        if len(files) == 1 and len({given.name for _, given in exact}) <= 2:
            yield exact[0][0], tuple(given for _, given in exact)

    def _names_by_owner(self, names: set[str], use: _UsedAsTwo) -> set[str]:
        """Further names of what a loop takes from several modules side by side, where one of them is known."""
        statement = self._index.statements[self._index.op_statement[use.op]]
        owners = walked_together(self._index.recording.files[statement.file].text, statement.line)
        rests = {one[len(owner) :] for owner in owners for one in names if one.startswith(f"{owner}.")}
        return {owner + rest for owner in owners for rest in rests}


def keys_for_one(index: Index, held: dict[int, list[tuple[int, int, int]]]) -> Iterator[TwoNames]:
    """Dicts with one tensor under two keys, which the program then wrote in place while it had both."""
    finder = _NamesFinder(index, held)  # for its writes
    kinds = index.recording.ops.column("kind")
    seen: set[tuple[int, int]] = set()
    for tensor, writes in finder._writes.items():
        own = [op for op in writes if kinds[op] == OpKind.CALL]
        names = {index.recording.text(name) for name, op, _ in held.get(tensor, ()) if own and op <= own[-1]}
        is_in_dicts = len({name for name in names if name.endswith(("']", '"]'))}) > 1
        later = {index.recording.text(name) for name, _, _ in held.get(tensor, ())} if len(own) > 1 else set()
        is_keyed = is_in_dicts or sum(name.endswith("]") for name in later) > 1
        for number, file in enumerate(index.recording.files) if is_keyed else ():
            by_keys = keys_of_one(file.text, names) if is_in_dicts and file.is_user else []
            for given in (*by_keys, *(keys_from_one(file.text, later) if file.is_user else ())):
                if (number, given.line) not in seen:
                    seen.add((number, given.line))
                    pair = given.name.split(" and ")
                    yield TwoNames((tensor,), (pair[0], pair[1]), own[-1], own[-1], number, (given,))
