"""Calls of ``train()`` that never have an effect: an evaluation that follows leaves the module in its own mode.

``model.train(); labels = model.predict(x); loss = criterion(model(x), labels)``, where ``predict`` calls ``eval()``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from gradscope.analysis.facts.modes.mode_runs import ModeRun, mode_runs
from gradscope.analysis.facts.modes.training_modes import ModeCall, TrainingModes
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, last_before
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index

TIMES = 2
"""Calls of a ``train()`` from which on it is reported; after a single one it is ``eval()`` that is to be told of."""


class UndoneTraining(NamedTuple):
    """What follows one call of ``train()``, up to the next."""

    train: ModeCall
    evaluated: ModeCall
    """The ``eval()`` after it."""
    steps: tuple[int, ...]
    """Those that apply passes in evaluation mode."""
    first: int
    """The first of these passes."""


def undone_trainings(
    index: Index, modes: TrainingModes, passes: Passes, lives: GradientLives
) -> Iterator[list[UndoneTraining]]:
    """Those of each ``train()`` none of whose calls came to a training pass."""
    by_call: dict[int, list[int]] = {}
    for at, call in enumerate(modes.calls):
        if call.training and not call.by_library and call.dropouts + call.norms and call.event.span >= 0:
            by_call.setdefault(call.event.span, []).append(at)
    repeated = [positions for positions in by_call.values() if len(positions) >= TIMES]
    if not repeated:
        return
    windows = _TrainWindows(index, modes.calls, mode_runs(index, passes), lives)
    for positions in repeated:
        found: list[UndoneTraining] = []
        for at in positions:
            undone = windows.after(at)
            if undone is None:
                break
            found += undone
        else:
            if len(found) >= TIMES:
                yield found


class _TrainWindows:
    def __init__(self, index: Index, calls: list[ModeCall], runs: list[ModeRun], lives: GradientLives) -> None:
        self._index = index
        self._calls = calls
        self._runs = runs
        self._lives = lives

    def after(self, at: int) -> list[UndoneTraining] | None:
        """What an evaluation undid of one call; none where nothing was trained after it, None where it had an effect.

        An ``eval()`` after which nothing is evaluated is there for the training.
        """
        train, end, inside = self._calls[at], self._index.op_count, list[ModeCall]()
        for one in islice(self._calls, at + 1, None):
            if one.training and one.covers(train.parameters):
                end = one.op
                break
            if _overlap(one, train):
                inside.append(one)
        evaluated = next((one for one in inside if not one.training and one.dropouts + one.norms), None)
        runs = self._runs[self._at(train.op) : self._at(end)]
        if evaluated is None or evaluated.by_library:
            return None if any(run.walked_by >= 0 for run in runs) else []
        after = inside[inside.index(evaluated) + 1 :]
        if any(one.training and _overlap(one, evaluated) for one in after):
            return None
        own = [run for run in runs if _is_in(evaluated, run)]
        passes = {op for tensor in evaluated.parameters for op in self._lives.passes.get(tensor, ())}
        trained = [run for run in own if run.walked_by in passes]
        if not trained:
            return []
        is_undone = all(run.op >= evaluated.op and not run.is_active for run in trained)
        first = trained[0]
        is_evaluated = any(evaluated.op <= run.op < first.op and run.walked_by < 0 for run in own)
        if not is_undone or not is_evaluated:
            return None
        steps = self._steps(evaluated.parameters, first.walked_by, end)
        return [UndoneTraining(train, evaluated, steps, first.walked_by)] if steps else []

    def _at(self, op: int) -> int:
        return bisect_left(self._runs, op, key=attrgetter("op"))

    def _steps(self, parameters: frozenset[int], first: int, end: int) -> tuple[int, ...]:
        """The steps before an op that apply passes from another op on."""
        lives = self._lives
        return tuple(
            sorted(
                {
                    step
                    for tensor in parameters & lives.steps.keys()
                    for step in lives.steps[tensor]
                    if first < step < end and last_before(lives.passes.get(tensor, []), step) >= first
                }
            )
        )


def _is_in(call: ModeCall, run: ModeRun) -> bool:
    """Whether a call set the mode of what ran: a batch norm that has statistics is known, a dropout may be in it."""
    kind, weight = run.site
    return weight in call.parameters if kind == "weight" else "dropout" in kind and call.dropouts > 0


def _overlap(one: ModeCall, other: ModeCall) -> bool:
    return not one.parameters.isdisjoint(other.parameters)
