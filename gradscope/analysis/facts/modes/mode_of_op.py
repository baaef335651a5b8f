"""In which mode a module was when an op of its forward pass ran."""

from __future__ import annotations

from gradscope.analysis.facts.modes.training_modes import ModeCall, TrainingModes
from gradscope.analysis.index import Index
from gradscope.recording.flags import EXTERNAL, PARAMETER

_STEPS_BACK = 12
"""Ops before one among which the last parameter is looked for."""


def parameters_behind(index: Index, op: int) -> frozenset[int]:
    """The parameters that went last into what an op was given, or into the op; none where they are far back."""
    flags, made_by = (index.recording.tensors.column(name) for name in ("flags", "op"))
    seen, level = {op}, [op]
    for _ in range(_STEPS_BACK):
        taken = {tensor for one in level for tensor in index.uses.of(one)}
        parameters = frozenset(tensor for tensor in taken if flags[tensor] & PARAMETER)
        if parameters:
            return parameters
        before = {made_by[tensor] for tensor in taken if not flags[tensor] & EXTERNAL and made_by[tensor] < op}
        level = sorted(before - seen)
        seen.update(level)
    return frozenset()


def mode_of_op(index: Index, modes: TrainingModes, op: int) -> ModeCall | None:
    """The call that set the mode in which an op ran: of a module with the parameters that its inputs come of."""
    parameters = parameters_behind(index, op)
    return modes.last_before(op, parameters) if parameters else modes.in_force(op)
