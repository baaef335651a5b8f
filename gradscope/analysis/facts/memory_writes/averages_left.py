"""Averages of weights put into the model that trains, for an evaluation or a file, that stay when training goes on.

An average is what was mixed with the weights after several steps since it was put into them last. One that is mixed
with them once before it takes their place is a step of its own (the slow weights of Lookahead).
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.memory_writes.overwritten_weights import whole_copies
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, last_before
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.frames.calls.saved_values import is_copied, is_packed, is_saved
from gradscope.recording import NONE
from gradscope.recording.rows import Field, OpFlag, OpKind

WALK_LIMIT = 2_000
"""Tensors that are looked at to find what one was mixed of."""

_KEEPS = ("Tensor.data.__get__", "Tensor.data.__set__", "Tensor.detach", "Tensor.clone", "Tensor.copy_", "Tensor.cpu")
"""Functions that keep or move values and evaluate nothing."""
_STATE = "nn.Module.state_dict"
_FILES = ("torch.save", "nn.Parameter.__reduce_ex__")
"""Functions by which a parameter itself goes into a file."""
_LIVE = ("Tensor.detach", "Tensor.data.__get__")
"""Functions that give another tensor on the parameter's memory."""


class LeftAverage(NamedTuple):
    """One parameter."""

    tensor: int
    puts: tuple[int, ...]
    """The calls that put its average in its place, after each of which training went on."""
    evaluated_at: int
    """An op that used it without a graph after the last of them; NONE: none did, and what was written is for a file."""
    restored_at: int = NONE
    """The last call that put other values in the place of its average before training went on; NONE: none ever did."""
    taken_at: int = NONE
    """What gave the tensor that the last put wrote to and that lies on the parameter's memory, where that was made for
    a file or elsewhere (``state = model.state_dict()``); NONE where the parameter itself was written."""
    stored_at: int = NONE
    """What took the average out of the model after the last put, for a file or a copy of its state; NONE: nothing."""


class AveragesLeft:
    """Those of one recording."""

    def __init__(self, index: Index, lives: GradientLives) -> None:
        self._index = index
        self._lives = lives

    def found(self) -> list[LeftAverage]:
        """Every parameter into which its average was put, and that did not get its own values back each time."""
        found = []
        for tensor, steps in self._lives.steps.items():
            puts = self._puts_into(tensor)
            if not puts or (left := self._left(tensor, steps, puts)) is None:
                continue
            found.append(left)
        return found

    def _left(self, tensor: int, steps: list[int], puts: list[tuple[int, int]]) -> LeftAverage | None:
        averages, evaluated, stored, restored = list[int](), NONE, NONE, NONE
        for at, (op, source) in enumerate(puts):
            going_on = first_after(self._lives.passes[tensor], op)
            following = puts[at + 1][0] if at + 1 < len(puts) else self._index.op_count
            if going_on < 0 or first_after(steps, going_on) < 0:
                continue
            if following < going_on:
                continue  # (something takes its place before training goes on: the weights of before, most likely)
            if at > 0 and not self._trained_between(tensor, puts[at - 1][0], op):
                if source == puts[at - 1][1]:
                    return None  # (it was put there twice)
                restored = op
                continue
            if not self._is_average(tensor, steps, source, op, puts[at - 1][0] if at else NONE):
                return None
            used = self._evaluated(tensor, op, going_on)
            kept = self._stored(tensor, op, going_on) if used < 0 else NONE
            if used < 0 and kept < 0 and not self._is_for_file(op, tensor):
                return None
            averages.append(op)
            evaluated, stored = used, kept
        if not averages:
            return None
        return LeftAverage(tensor, tuple(averages), evaluated, restored, self._taken_at(averages[-1], tensor), stored)

    def _taken_at(self, put: int, tensor: int) -> int:
        """What another statement took of the model and a put wrote to: by a state that is handed on, or saved."""
        index = self._index
        into = next((one for one in index.uses.of(put) if index.func(put) == "Tensor.copy_"), tensor)
        taken = index.made_by(into) if into != tensor else NONE
        if not 0 <= taken < put or index.op_statement[taken] == index.op_statement[put]:
            return NONE
        text, line = self._source(taken)
        is_elsewhere = index.function_of(taken) != index.function_of(put) and is_packed(text, line)
        is_state, is_live = index.func(taken) == _STATE, index.func(taken) in _LIVE
        return taken if (is_state and is_elsewhere) or ((is_state or is_live) and is_saved(text, line)) else NONE

    def _is_for_file(self, put: int, tensor: int) -> bool:
        taken = self._taken_at(put, tensor)
        return taken >= 0 and is_saved(*self._source(taken))

    def _source(self, op: int) -> tuple[str, int]:
        """The text of the file of an op, and its line."""
        statement = self._index.statements[self._index.op_statement[op]]
        text = self._index.recording.files[statement.file].text if statement.file >= 0 else ""
        return text, int(self._index.op_line(op))

    def _trained_between(self, tensor: int, first: int, last: int) -> bool:
        return first < last_before(self._lives.steps[tensor], last)

    def _puts_into(self, tensor: int) -> list[tuple[int, int]]:
        """The calls that gave a parameter other values whole, with the tensor that has them; in order."""
        index = self._index
        blocks = {
            index.recording.tensors.column("storage")[tensor],
            *(block for _, block in index.moves.get(tensor, ())),
        }
        copies = [
            (op, source)
            for block in blocks
            for op, source in self._copies.get(block, ())
            if index.storage_at(tensor, op) == block
        ]
        return sorted({*copies, *self._set.get(tensor, ())})

    @cached_property
    def _copies(self) -> dict[int, list[tuple[int, int]]]:
        return whole_copies(self._index)

    @cached_property
    def _set(self) -> dict[int, list[tuple[int, int]]]:
        """For each tensor whose ``data`` was set: the ops, and what it was set to."""
        index, found = self._index, dict[int, list[tuple[int, int]]]()
        changes, kinds = index.recording.changes, index.recording.ops.column("kind")
        columns = (changes.column(name) for name in ("op", "tensor", "field"))
        for op, tensor, field in zip(*columns, strict=True):
            if field == Field.STORAGE and op < index.op_count and kinds[op] == OpKind.SET:
                found.setdefault(tensor, []).append((op, index.uses.of(op)[-1]))
        return found

    def _evaluated(self, tensor: int, after: int, before: int) -> int:
        """An op between two that computed with a parameter without a graph; NONE where none did."""
        users, flags = self._index.users.of(tensor), self._index.recording.ops.column("flags")
        statement = self._index.op_statement[after]
        for op in users:
            is_between = after < op < before and self._index.op_statement[op] != statement
            if is_between and not flags[op] & OpFlag.GRAD and self._index.method(op) not in _KEEPS:
                return op
        return NONE

    def _stored(self, tensor: int, after: int, before: int) -> int:
        """An op between two that took a parameter, or the state that it is part of, to be stored; NONE: none did."""
        index = self._index
        for op in index.users.of(tensor):
            if not after < op < before:
                continue
            text, line = self._source(op)
            is_state = index.func(op) == _STATE and (is_saved(text, line) or is_copied(text, line))
            if is_state or index.func(op) in _FILES:
                return op
        return NONE

    def _is_average(self, tensor: int, steps: list[int], source: int, until: int, since: int) -> bool:
        """Whether a tensor was mixed with a parameter's values after two steps or more, all of them after an op."""
        index, made_at = self._index, self._index.recording.tensors.column("op")
        own = self._index.storage_at
        rounds, seen, todo = set[int](), {source}, [(source, until)]
        while todo and len(seen) < WALK_LIMIT and len(rounds) < 2:
            one, before = todo.pop()
            made = made_at[one]
            ops = [made] * (one in index.tensors_made(made)) if made < index.op_count else []
            ops += self._writes_into(own(one, before), max(made, since), before)
            for op in (op for op in ops if op > since):
                for taken in index.uses.of(op):
                    if own(taken, op) == own(tensor, op):
                        rounds.add(bisect_left(steps, op))
                    elif taken not in seen:
                        seen.add(taken)
                        todo.append((taken, op))
        return len(rounds - {0}) >= 2

    def _writes_into(self, block: int, after: int, before: int) -> list[int]:
        ops = self._written.get(block, [])
        return ops[bisect_left(ops, after + 1) : bisect_left(ops, before)]

    @cached_property
    def _written(self) -> dict[int, list[int]]:
        """For each memory block the calls that wrote into it, in order; not the steps of optimizers."""
        index, kinds = self._index, self._index.recording.ops.column("kind")
        found: dict[int, list[int]] = {}
        for op, tensor, _, _ in all_writes(index):
            if op < index.op_count and kinds[op] in (OpKind.CALL, OpKind.GROUP):
                found.setdefault(index.storage_at(tensor, op), []).append(op)
        return found
