"""Batch norms that ``eval()`` of the model does not reach: an overridden ``train()`` hands it on to others only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.modes.norm_statistics import LEARNED, runs_in_training
from gradscope.analysis.facts.modes.training_modes import ModeCall, TrainingModes
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.frames.modules.mode_overrides import ModeOverride, mode_overrides
from gradscope.recording import NONE


class UnreachedNorms(NamedTuple):
    """Those of one class."""

    file: int
    override: ModeOverride
    call: ModeCall
    """The last ``eval()`` after which one of them ran as in training."""
    weights: list[int]
    runs: list[int]
    """Their runs in evaluations."""


def unreached_norms(index: Index, modes: TrainingModes, passes: Passes) -> Iterator[UnreachedNorms]:
    """For each class with such a method its norms that ran as in training after ``eval()``, and not for a pass."""
    files = index.recording.files
    overrides = {one.owner: (number, one) for number, file in enumerate(files) for one in mode_overrides(file.text)}
    if not overrides or all(call.training for call in modes.calls):
        return
    handed_on = {owner: _handed_on(index, modes, *place) for owner, place in overrides.items()}
    classes, found = _classes_around(index), dict[str, UnreachedNorms]()
    nodes = index.recording.tensors.column("node")
    for op, weight in runs_in_training(index, LEARNED):
        owner = next((name for name in classes.get(weight, ()) if name in overrides), "")
        last = _last_mode(modes, op, weight, handed_on.get(owner, frozenset()))
        made = index.tensors_made(op)
        node = nodes[made[0]] if made else NONE
        if not owner or last is None or last.training or (node >= 0 and passes.first_walked_at[node] >= 0):
            continue
        known = found.setdefault(owner, UnreachedNorms(*overrides[owner], last, [], []))
        found[owner] = known._replace(call=last)
        known.runs.append(op)
        if weight not in known.weights:
            known.weights.append(weight)
    yield from found.values()


def _handed_on(index: Index, modes: TrainingModes, file: int, override: ModeOverride) -> frozenset[int]:
    """The calls (rows of events) by which such a method sets the mode of a part: it was given the same."""
    spans = index.recording.spans
    lines = range(override.line, override.end_line + 1)
    return frozenset(
        call.event.row
        for call in modes.calls
        if any(spans[one].file == file and spans[one].line in lines for one in call.through)
    )


def _last_mode(modes: TrainingModes, op: int, weight: int, handed_on: frozenset[int]) -> ModeCall | None:
    """The last call before an op on what has a weight, or by the method of the class around that.

    Of those of one call of the method what it sets itself counts: ``self.norm.train()`` is meant.
    """
    own = modes.last_before(op, frozenset((weight,)))
    others = (call for call in reversed(modes.calls) if call.op <= op and call.event.row in handed_on)
    other = next(others, None)
    return own if other is None or (own is not None and own.op >= other.op) else other


def _classes_around(index: Index) -> dict[int, list[str]]:
    """For each parameter the classes of the modules that it is in, the innermost first."""
    parents, kinds = (index.recording.modules.column(name) for name in ("parent", "kind"))
    found: dict[int, list[str]] = {}
    for module, tensor, _ in index.recording.module_tensors:
        names = found.setdefault(tensor, [])
        while module != NONE:
            names.append(index.recording.text(kinds[module]))
            module = parents[module]
    return found
