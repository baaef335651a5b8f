"""Running averages that a model computes with, and that evaluations update just as training does.

As a batch norm does it, an average of what comes in is to follow the data of training alone. What a call in evaluation
mode mixes into it depends on the data of that evaluation, and training goes on from there.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.modes.training_modes import TrainingModes
from gradscope.analysis.facts.passes.gradient_lives import first_after, ops_between
from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import OpKind

IN_TRAINING, IN_EVALUATION = 3, 2
"""Updates of one statement in either mode from which on it is reported."""
_NEAR = 6
"""Ops before an addition among which the average was multiplied by what is kept of it."""
_FOLLOWED = 200
"""Tensors that are followed from an average to what has a gradient."""


class AverageInEvaluation(NamedTuple):
    """One statement that updates an average."""

    op: int
    """Its last run in an evaluation."""
    average: int
    evaluated: list[int]
    """Its runs in evaluations."""
    call: int
    """The ``eval()`` (a row of events) before the last."""


def averages_in_evaluation(index: Index, events: Events) -> Iterator[AverageInEvaluation]:
    """Each statement that mixes into what the model computes with, in both modes."""
    periods = _Periods(index, TrainingModes(events))
    if not periods.evaluations:
        return
    mixes: dict[int, list[tuple[int, int]]] = {}
    for op, tensor, _, _ in writes_by_program(index):
        if index.op_statement[op] != NOWHERE and _is_mixed(index, op, tensor):
            mixes.setdefault(index.op_statement[op], []).append((op, tensor))
    for runs in mixes.values():
        evaluated = [op for op, _ in runs if periods.evaluation(op) is not None]
        trained = index.times(op for op, _ in runs if periods.is_training(op))
        if trained < IN_TRAINING or index.times(evaluated) < IN_EVALUATION:
            continue
        op, average = next(run for run in reversed(runs) if run[0] == evaluated[-1])
        period = periods.evaluation(op)
        if period is not None and _is_computed_with(index, average, op):
            yield AverageInEvaluation(op, average, evaluated, period.row)


class _EvaluationPeriod(NamedTuple):
    begin: int
    end: int
    row: int


class _Periods:
    """When a model was evaluated: from an ``eval()`` to the next call on a mode, with no pass in between."""

    def __init__(self, index: Index, modes: TrainingModes) -> None:
        self._passes = index.of_kind(OpKind.BACKWARD, OpKind.GRAD)
        calls, self.evaluations = modes.calls, list[_EvaluationPeriod]()
        for at, call in enumerate(calls):
            later = (
                one.op for one in calls[at + 1 :] if one.training and not one.parameters.isdisjoint(call.parameters)
            )
            end = next(later, index.op_count)
            is_evaluation = not call.training and call.parameters and not call.by_library
            if is_evaluation and not ops_between(self._passes, call.op - 1, end):
                self.evaluations.append(_EvaluationPeriod(call.op, end, call.event.row))
        self._begins = [one.begin for one in self.evaluations]

    def evaluation(self, op: int) -> _EvaluationPeriod | None:
        """The evaluation that an op is in."""
        position = bisect_left(self._begins, op + 1)
        found = self.evaluations[position - 1] if position else None
        return found if found is not None and op < found.end else None

    def is_training(self, op: int) -> bool:
        """Whether a pass comes after an op, and no evaluation before it."""
        following = first_after(self._passes, op)
        begins = bisect_left(self._begins, op)
        is_first = begins == len(self._begins) or following < self._begins[begins]
        return following >= 0 and is_first and self.evaluation(op) is None


def _is_mixed(index: Index, op: int, tensor: int) -> bool:
    """Whether a write keeps a part of what was there: ``lerp_``, or a sum after a multiplication in place."""
    flags = index.recording.tensors.column("flags")
    if flags[tensor] & PARAMETER or index.requires_grad(tensor, op) or not index.is_floating(tensor):
        return False
    func = index.func(op)
    storage = index.storage_at(tensor, op)
    if func == "Tensor.lerp_":
        return True
    if func == "Tensor.add_":
        before = range(max(op - _NEAR, 0), op)
        scaled = (one for one in before if index.func(one) == "Tensor.mul_" and len(index.uses.of(one)) == 1)
        return any(index.storage_at(taken, one) == storage for one in scaled for taken in index.results.of(one))
    return func == "Tensor.copy_" and _is_of_itself(index, op, storage)


def _is_of_itself(index: Index, op: int, storage: int) -> bool:
    """Whether what is copied was computed, in the same statement, of what it is copied to."""
    todo, seen = list(index.uses.of(op))[1:], set[int]()
    while todo:
        made = index.made_by(todo.pop())
        if made < 0 or made in seen or index.op_statement[made] != index.op_statement[op]:
            continue
        seen.add(made)
        taken = list(index.uses.of(made))
        if any(index.storage_at(one, made) == storage for one in taken):
            return True
        todo += taken
    return False


def _is_computed_with(index: Index, average: int, op: int) -> bool:
    """Whether what has a graph is computed of an average, or of what it is written into."""
    nodes, statement = index.recording.tensors.column("node"), index.op_statement[op]
    todo, seen = [average], {average}
    while todo and len(seen) < _FOLLOWED:
        by_statement: dict[int, int] = {}
        for user in index.users.of(todo.pop()):
            by_statement.setdefault(index.op_statement[user], user)  # (its first run stands for all)
        by_statement.pop(statement, None)
        for user in by_statement.values():
            for made in (*index.tensors_made(user), *index.results.of(user)):
                if nodes[made] != NONE:
                    return True
                if made not in seen:
                    seen.add(made)
                    todo.append(made)
    return False
