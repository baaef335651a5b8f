"""Layers whose result a program computes in every pass, for nothing, and works with where it does not train.

A result that is used nowhere may be one that a model gives beside others: a pooler's. What is evaluated counts.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.names.held_names import HeldName, HeldNames
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.calls.reads_of_results import HeldIn, Ran, Use, use_of
from gradscope.recording import NONE
from gradscope.recording.flags import GRAD
from gradscope.recording.rows import OpKind

_STARTS = re.compile(r"^nn\.init\.|\.__init__$")
_FOLLOWED = 500
"""Ops from a layer to where its results end, of one pass."""


class UnusedResult(NamedTuple):
    """What a layer's parameters were computed with."""

    op: int
    """The last call that made it, in the last pass."""
    name: str
    """What the program calls it."""
    passes: list[int]
    evaluated: int
    """A call that works with what the layer gave outside of the training."""


class ResultsInNoLoss:
    """Looks for them in one recording."""

    def __init__(self, index: Index, lives: GradientLives) -> None:
        self._index = index
        self._lives = lives
        self._held = HeldNames(index)

    def of(self, leaf: int, passes: list[int]) -> UnusedResult | None:
        """The result for which a leaf was used in each of some passes, where no call took that.

        Nothing is said of what was loaded, of what a library calls, nor of a call that runs layers that are trained:
        which of several results counts may be chosen anew at each pass.
        """
        ends, storages = dict[int, list[int]](), self._index.recording.tensors.column("storage")
        index, flags = self._index, self._index.recording.ops.column("flags")
        inner, kinds, spans = (index.recording.ops.column(name) for name in ("inner", "kind", "span"))
        outside, inside = list[int](), set[int]()
        for op in index.users.of(leaf):
            at = bisect_left(passes, op)
            if kinds[op] != OpKind.CALL or not index.tensors_made(op):
                continue
            if not flags[op] & GRAD or at == len(passes):
                outside.append(op)
                continue
            if inner[op] != NONE or spans[op] in self._calls_of_trained:
                return None
            found = self._ends(op, passes[at], inside)
            if not found:
                return None
            ends.setdefault(passes[at], []).extend(found)
        evaluated = next((at for op in outside if (at := self._worked_with(op, inside)) >= 0), NONE)
        if len(ends) < len(passes) or not ends or evaluated == NONE or storages[leaf] in self._loaded:
            return None
        last = max(ends[passes[-1]])
        name = self._name([tensor for some in ends.values() for tensor in some])
        return UnusedResult(index.made_by(last), name, passes, evaluated) if name else None

    def _worked_with(self, first: int, inside: set[int]) -> int:
        """The call of another function than a layer's own that took its result, or one that made numbers of it.

        Args:
            first: The layer's call.
            inside: The statements that go on with its results in the training as well.
        """
        index, seen, todo = self._index, set[int](), [first]
        function = index.statements[index.op_statement[first]].function
        while todo and len(seen) < _FOLLOWED:
            op = todo.pop()
            if op in seen:
                continue
            seen.add(op)
            made = index.tensors_made(op)
            statement = index.op_statement[op]
            if statement not in inside and (
                index.statements[statement].function != function or not any(index.is_floating(one) for one in made)
            ):
                return op
            todo += [user for one in made for user in index.users.of(one)]
        return NONE

    def _ends(self, first: int, before: int, inside: set[int]) -> list[int]:
        """The results of a call, by way of others, that no call took; empty where something else became of one."""
        index, seen, todo, ends = self._index, set[int](), [first], list[int]()
        while todo:
            op = todo.pop()
            if op in seen:
                continue
            seen.add(op)
            inside.add(index.op_statement[op])
            made = index.tensors_made(op)
            if len(seen) > _FOLLOWED or not made or op >= before:
                return []
            for tensor in made:
                if not index.requires_grad(tensor, op + 1):
                    return []  # (detached, compared, counted: somebody looks at it)
                users = index.users.of(tensor)
                todo += users
                if not len(users):
                    ends.append(tensor)
        return ends

    @cached_property
    def _calls_of_trained(self) -> set[int]:
        """The calls in the source that run layers which get gradients."""
        spans, kinds = (self._index.recording.ops.column(name) for name in ("span", "kind"))
        ops = (op for leaf in self._lives.passes for op in self._index.users.of(leaf))
        return {spans[op] for op in ops if kinds[op] == OpKind.CALL}

    @cached_property
    def _loaded(self) -> set[int]:
        """The memory that anything wrote but the initialisation of a module."""
        index, storages = self._index, self._index.recording.tensors.column("storage")
        written = ((op, tensor) for op, tensor, *_ in all_writes(index) if op < index.op_count)
        return {storages[tensor] for op, tensor in written if not _STARTS.search(index.func(op))}

    def _name(self, tensors: list[int]) -> str:
        """A name under which the program has some results and that it never uses; empty if it has other ones, too."""
        names: dict[tuple[int, int], HeldName] = {}
        for tensor in tensors:
            for held in self._held.of_tensor.get(tensor, ()):
                if held.statement != NOWHERE:
                    names.setdefault((held.name, held.scope), held)
        strings = self._index.recording.strings
        uses = [(strings[one.name], self._use(one)) for one in names.values()]
        unused = [name for name, use in uses if use == "none"]
        return unused[0] if unused and all(use != "maybe" for _, use in uses) else ""

    def _use(self, held: HeldName) -> Use:
        files, statement = self._index.recording.files, self._index.statements[held.statement]
        text = files[statement.file].text if statement.file >= 0 else ""
        return use_of(HeldIn(self._index.recording.strings[held.name], text, int(statement.line)), self._texts)

    @cached_property
    def _texts(self) -> list[tuple[str, Ran]]:
        """The program's files, and which of their lines ran."""
        lines: dict[int, list[int]] = {}
        for one in self._index.statements:
            lines.setdefault(one.file, []).append(int(one.line))

        def ran(file: int) -> Ran:
            return lambda first, last: any(first <= line <= last for line in lines.get(file, ()))

        files = self._index.recording.files
        return [(file.text, ran(number)) for number, file in enumerate(files) if file.is_user and file.text]
