"""Evaluations whose ``eval()`` a helper undoes that training shares: it calls ``train()`` before the first forward."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from operator import attrgetter
from typing import NamedTuple

from gradscope.analysis.facts.modes.mode_runs import ModeRun
from gradscope.analysis.facts.modes.training_modes import ModeCall, TrainingModes
from gradscope.analysis.index import Index


class UndoneEvaluation(NamedTuple):
    """All calls of one ``eval()`` that one ``train()`` undid."""

    undone: ModeCall
    back: ModeCall
    """The ``train()``."""
    helper: str
    """The function that calls it."""
    runs: tuple[ModeRun, ...]
    """Dropouts and batch norms that ran as in training, in passes that no backward came through."""


class _Window(NamedTuple):
    """From a call of ``train()`` to the next call that sets the mode of the same."""

    back: ModeCall
    runs: list[ModeRun]

    @property
    def is_trained(self) -> bool:
        return any(run.walked_by >= 0 for run in self.runs)


def undone_evaluations(index: Index, modes: TrainingModes, runs: list[ModeRun]) -> Iterator[UndoneEvaluation]:
    """One for each ``eval()`` that never had an effect, as one ``train()`` undid it each time.

    What that ``train()`` is there for shows elsewhere: it is called before passes that train, too.
    """
    evaluations: dict[int, list[tuple[ModeCall, list[_Window]] | None]] = {}
    trains = {window.back.event.span for window in _windows(modes.calls, runs, index.op_count) if window.is_trained}
    for at, call in enumerate(modes.calls):
        if not (call.training or call.by_library) and call.dropouts + call.norms:
            evaluations.setdefault(call.event.span, []).append(_undone(index, modes, at, runs, trains))
    for found in evaluations.values():
        known = [one for one in found if one is not None]
        if not known or len(known) < len(found) or len({windows[0].back.event.span for _, windows in known}) > 1:
            continue
        (call, windows) = known[-1]
        active = tuple(run for _, each in known for window in each for run in window.runs)
        back = windows[0].back
        yield UndoneEvaluation(call, back, _function(index, back.through[0]), active)


def _undone(
    index: Index, modes: TrainingModes, at: int, runs: list[ModeRun], trains: set[int]
) -> tuple[ModeCall, list[_Window]] | None:
    """What ran in an evaluation as in training; None where its ``eval()`` had an effect, or trained itself."""
    call = modes.calls[at]
    later = [one for one in modes.calls[at + 1 :] if one.covers(call.parameters)]
    until = next((number for number, one in enumerate(later) if not one.training), len(later))
    windows = _windows(later, runs, index.op_count)[:until]
    if not windows or windows[0].back.by_library or windows[0].back.event.span not in trains:
        return None
    back = windows[0].back
    if _between(runs, call.op, back.op) or not _is_called_beside(index, call, back):
        return None
    evaluated: list[_Window] = []
    for window in windows:  # (till the training goes on)
        if window.back.event.span != back.event.span or window.back.through != back.through or window.is_trained:
            break
        evaluated.append(window)
    evaluated = [window for window in evaluated if window.runs]
    is_active = all(run.is_active for window in evaluated for run in window.runs)
    return (call, evaluated) if evaluated and is_active else None


def _is_called_beside(index: Index, call: ModeCall, back: ModeCall) -> bool:
    """Whether the function that called ``eval()`` called, in the same run, the helper that calls ``train()``."""
    if not call.through or len(back.through) < len(call.through) + 1:
        return False
    around = len(call.through) - 1
    same = call.through[1:] == back.through[len(back.through) - around :]
    beside = back.through[len(back.through) - around - 1]
    return same and _place(index, beside) == _place(index, call.through[0])


def _place(index: Index, span: int) -> tuple[int, int]:
    row = index.recording.spans[span]
    return row.file, row.function


def _function(index: Index, span: int) -> str:
    return index.recording.text(index.recording.spans[span].function)


def _windows(calls: list[ModeCall], runs: list[ModeRun], end: int) -> list[_Window]:
    """The windows of the calls of ``train()``, each up to the next call; of others they have no runs."""
    found = []
    for at, call in enumerate(calls):
        until = calls[at + 1].op if at + 1 < len(calls) else end
        found.append(_Window(call, _between(runs, call.op, until) if call.training else []))
    return found


def _between(runs: list[ModeRun], first: int, end: int) -> list[ModeRun]:
    return runs[bisect_left(runs, first, key=attrgetter("op")) : bisect_left(runs, end, key=attrgetter("op"))]
