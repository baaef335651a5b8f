"""Where the functions of the program end that a statement calls once its own calls are made.

``net = freeze(nn.Linear(3, 3))`` makes a layer, and what ``freeze`` does to it happens before the line is over: what is
told of the tensor after the line is what it is then.
"""

from __future__ import annotations

from functools import cached_property

from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.blocks.loops_around import loops_around
from gradscope.frames.calls.called_functions import CalledFunctions, called_functions
from gradscope.recording import NONE

LIMIT = 4096
"""Ops that are looked through for the end of one run of a statement."""


class CalledBelow:
    """Finds the last op that a run of a statement made for a tensor, in functions that it calls too.

    Args:
        index: The recording.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._within: dict[int, frozenset[str]] = {}

    def end(self, op: int, tensor: int) -> int:
        """The op itself, or the last behind it that changed the tensor before the line was over.

        Nothing tells where one call of a function ends and another begins: what changes the tensor for the second time
        at one place is taken for another call. But where a loop does (it trains what was made), it is not known when
        the line was over: then it is told as it was made.
        """
        index, statements = self._index, self._index.op_statement
        changing = [at for at in self._changed_at.get(tensor, ()) if op < at < op + LIMIT]
        if not changing or op >= index.op_count or statements[op] == NOWHERE:
            return op
        called, own = self._called(statements[op]), index.statements[statements[op]].function
        spans, threads = (index.recording.ops.column(name) for name in ("span", "thread"))
        seen, end = set[int](), op
        for at in range(op + 1, min(changing[-1] + 1, index.op_count)):
            if threads[at] != threads[op]:
                continue
            function = index.statements[statements[at]].function
            if statements[at] == NOWHERE or function == own or called.isdisjoint(self._parts(function)):
                break
            if at in changing:
                if spans[at] in seen:
                    return op if self._is_in_loop(spans[at]) else end
                seen.add(spans[at])
                end = at
        return end

    def _is_in_loop(self, row: int) -> bool:
        span = self._index.recording.spans[row] if row >= 0 else None
        return (
            span is not None
            and span.file >= 0
            and bool(loops_around(self._index.recording.files[span.file].text, span.line))
        )

    def _parts(self, function: int) -> list[str]:
        return self._index.recording.text(function).split(".")

    def _called(self, statement: int) -> frozenset[str]:
        """The functions that a statement calls, and those that these call."""
        known = self._within.get(statement)
        if known is None:
            place = self._index.statements[statement]
            todo = set(self._files[place.file].by_line.get(place.line, ()))
            found = set[str]()
            while todo:
                name = todo.pop()
                found.add(name)
                for file in self._files:
                    todo |= file.by_function.get(name, frozenset()) - found
            known = self._within[statement] = frozenset(found)
        return known

    @cached_property
    def _files(self) -> list[CalledFunctions]:
        return [called_functions(file.text if file.is_user else "") for file in self._index.recording.files]

    @cached_property
    def _changed_at(self) -> dict[int, list[int]]:
        changes, found = self._index.recording.changes, dict[int, list[int]]()
        for tensor, op in zip(changes.column("tensor"), changes.column("op"), strict=True):
            if op != NONE and (not (ops := found.setdefault(tensor, [])) or ops[-1] != op):
                ops.append(op)
        return found
