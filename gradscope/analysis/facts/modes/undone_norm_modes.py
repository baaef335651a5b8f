"""Batch norms that were put into evaluation mode by themselves, and that ``train()`` of all put back unasked.

That ``eval()`` was meant for the training shows where it is called on norms alone (or in a function that says that it
freezes), and nothing set these to training mode themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.modes.mode_runs import ModeRun, mode_runs
from gradscope.analysis.facts.modes.norm_statistics import LEARNED, runs_in_training
from gradscope.analysis.facts.modes.training_modes import ModeCall, TrainingModes
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.frames.modules.zero_momentum import is_to_freeze

PASSES = 3
"""Training passes in which such norms learn, from which on it is reported."""
_PARAMETERS = slice(3, 5)
"""Of what a call takes: the input and the statistics come before weight and bias."""


class UndoneNorms(NamedTuple):
    """All norms that one statement put into evaluation mode and one ``train()`` put back."""

    asked: ModeCall
    back: ModeCall
    weights: tuple[int, ...]
    runs: tuple[int, ...]
    """Their runs as in training, in training passes."""
    passes: tuple[int, ...]
    """The passes that came through these."""


class _AskedInVain(NamedTuple):
    """One call of ``eval()`` and what came of it."""

    call: ModeCall
    back: ModeCall
    lost: list[tuple[int, ModeRun]]
    """Runs as in training of what it was called on, with the weight; none where its mode was in force throughout."""


def undone_norm_modes(index: Index, modes: TrainingModes, passes: Passes) -> Iterator[UndoneNorms]:
    """One for each statement whose calls of ``eval()`` were all undone."""
    asked: dict[int, list[tuple[int, ModeCall]]] = {}
    for at, call in enumerate(modes.calls):
        if not (call.training or call.by_library) and call.event.span >= 0:
            asked.setdefault(call.event.span, []).append((at, call))
    if not asked or not any(call.training for call in modes.calls):
        return
    runs = _NormRuns(index, passes)
    for calls in asked.values():
        chosen = [(at, call) for at, call in calls if call.norms and call.parameters]
        if not chosen or not _chooses_norms(index, [call for _, call in calls], runs.parameters):
            continue
        undone = [one for at, _ in chosen if (one := _undone(index, modes.calls, at, runs)) is not None]
        effective = [one for one in undone if one.lost]
        lost = [each for one in effective for each in one.lost]
        ended = {run.walked_by for _, run in lost}
        if len(undone) < len(chosen) or len(ended) < PASSES or len({one.back.event.span for one in effective}) > 1:
            continue
        weights = tuple(dict.fromkeys(weight for weight, _ in lost))
        last = effective[-1]
        yield UndoneNorms(last.call, last.back, weights, tuple(run.op for _, run in lost), tuple(sorted(ended)))


class _NormRuns:
    """What norms did in training passes."""

    def __init__(self, index: Index, passes: Passes) -> None:
        self._learned = {op for op, _ in runs_in_training(index, LEARNED)}
        self._by_weight: dict[int, list[ModeRun]] = {}
        self.parameters = set[int]()
        """Weights and biases of norms."""
        for run in mode_runs(index, passes):
            kind, weight = run.site
            if kind == "weight":
                self.parameters.update(index.uses.of(run.op)[_PARAMETERS])
                if index.requires_grad(weight, run.op):
                    self._by_weight.setdefault(weight, []).append(run)

    def within(self, parameters: frozenset[int], first: int, end: int) -> Iterator[tuple[int, ModeRun]]:
        """The runs of some parameters' norms, from one op to another: in evaluation mode, or learning."""
        for weight in sorted(parameters & self._by_weight.keys()):
            for run in self._by_weight[weight]:
                if first <= run.op < end and (not run.is_active or run.op in self._learned):
                    yield weight, run


def _chooses_norms(index: Index, calls: list[ModeCall], parameters: set[int]) -> bool:
    """Whether a statement picks norms (and dropouts) out of all: ``for m in net.modules(): m.eval()`` does not."""
    if all(call.parameters <= parameters and call.norms + call.dropouts for call in calls):
        return True
    span = index.recording.spans[calls[0].event.span]
    return span.file >= 0 and is_to_freeze(index.recording.files[span.file].text, span.line)


def _undone(index: Index, calls: list[ModeCall], at: int, runs: _NormRuns) -> _AskedInVain | None:
    """What a call of ``eval()`` came to; None where it was not undone, or where that may have been meant."""
    call = calls[at]
    later = [one for one in calls[at + 1 :] if one.covers(call.parameters)]
    again = next((one for one in later if one.parameters == call.parameters), None)
    back = next((one for one in later if one.training), None)
    end = again.op if again is not None else index.op_count
    everything = list(runs.within(call.parameters, call.op, end))
    found = [(weight, run) for weight, run in everything if run.walked_by >= 0]
    lost = [(weight, run) for weight, run in found if run.is_active]
    if not lost:
        return _AskedInVain(call, call, [])
    if back is None or back.by_library or back is again:
        return None
    if any(run.walked_by < 0 and run.op < later[0].op for _, run in everything):
        return None  # (it was for an evaluation, with dropout maybe)
    is_held = len(lost) < len(found)
    return None if is_held and not _is_restored(index, later, back) else _AskedInVain(call, back, lost)


def _is_restored(index: Index, later: list[ModeCall], back: ModeCall) -> bool:
    """Whether ``train()`` puts back what the same function's ``eval()`` of all had set for an evaluation, repeatedly.

    After passes in evaluation mode, any other may begin a part of the training in which the norms are to learn.
    """
    at = later.index(back)
    before = later[at - 1] if at else None
    is_repeated = sum(one.event.span == back.event.span for one in later) > 1
    if before is None or before.training or before.parameters != back.parameters or not is_repeated:
        return False
    return before.through[1:] == back.through[1:] and _function(index, before) == _function(index, back)


def _function(index: Index, call: ModeCall) -> tuple[int, int]:
    span = index.recording.spans[call.event.span]
    return span.file, span.function
