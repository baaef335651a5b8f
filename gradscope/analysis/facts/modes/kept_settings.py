"""Settings that a forward pass in evaluation overwrote, and that passes of the training after it read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.modes.mode_of_op import mode_of_op, parameters_behind
from gradscope.analysis.facts.modes.training_modes import ModeCall, TrainingModes
from gradscope.analysis.index import Index
from gradscope.frames.modules.settings_of_evaluation import SettingOfEvaluation, settings_of_evaluation
from gradscope.recording.flags import GRAD, INFERENCE
from gradscope.recording.rows import OpKind


class KeptSetting(NamedTuple):
    """One attribute."""

    file: int
    setting: SettingOfEvaluation
    evaluated: int
    """The first op in evaluation that read it."""
    trained: tuple[int, ...]
    """Those of training after that, with a graph, before a backward pass."""
    mode: ModeCall
    """What had set evaluation."""


def kept_settings(index: Index, modes: TrainingModes) -> Iterator[KeptSetting]:
    """One for each setting that was read in evaluation and then in training."""
    files = [file.text for file in index.recording.files if file.is_user]
    is_both = {call.training for call in modes.calls} == {True, False}
    for number, file in enumerate(index.recording.files if is_both else ()):
        for setting in settings_of_evaluation(file.text) if file.is_user else ():
            name = setting.name.removeprefix("self")
            if not any(other is not file.text and name in other for other in files):
                yield from _of(index, modes, number, setting)


def _of(index: Index, modes: TrainingModes, file: int, setting: SettingOfEvaluation) -> Iterator[KeptSetting]:
    flags, kinds = (index.recording.ops.column(name) for name in ("flags", "kind"))
    statements = {
        at
        for at, one in enumerate(index.statements)
        if one.file == file
        and any(first <= one.line <= last for first, last in setting.read)
        and index.recording.text(one.function).endswith(setting.function)
    }
    evaluated: dict[frozenset[int], tuple[int, ModeCall]] = {}
    trained: dict[frozenset[int], list[int]] = {}
    is_one = len({call.module for call in modes.calls}) == 1
    for op in range(modes.calls[0].op, index.op_count) if statements else ():
        if index.op_statement[op] not in statements or kinds[op] != OpKind.CALL:
            continue
        # By the parameters behind it: another object of the class may be in another mode.
        mode, own = mode_of_op(index, modes, op), parameters_behind(index, op)
        if mode is None or not (own or is_one):
            continue
        if not mode.training:
            evaluated.setdefault(own, (op, mode))
        elif own in evaluated and mode.op > evaluated[own][0] and flags[op] & (GRAD | INFERENCE) == GRAD:
            trained.setdefault(own, []).append(op)
    last = max(index.of_kind(OpKind.BACKWARD), default=-1)
    for own, ops in trained.items():
        if ops[0] < last:
            yield KeptSetting(file, setting, evaluated[own][0], tuple(ops), evaluated[own][1])
            return
