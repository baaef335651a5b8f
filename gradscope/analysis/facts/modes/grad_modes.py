"""Where grad mode was set, and which statements ran in a mode that nothing was seen to set."""

from __future__ import annotations

import re

from gradscope.analysis.index import NOWHERE, Index
from gradscope.analysis.report_model import ModeChange
from gradscope.recording.flags import AUTOCAST, GRAD, INFERENCE
from gradscope.recording.rows import OpKind

_RUN_LOOKED_AT = 256
"""Ops of one statement that are gone back over for the mode in which it began."""
_IN_SOURCE = r"\b(no_grad|enable_grad|set_grad_enabled|inference_mode|autocast)\b"
_ENDS = ("__exit__", "__call__")
"""Give back what was in force before: the end of a ``with``, and that a decorator has been made."""


def is_user_code(index: Index, op: int) -> bool:
    """Whether a call set grad mode for the user's code: not torch for its own, as inside ``clip_grad_norm_``, and no
    library for its own, or to set it back.
    """
    if index.recording.ops.column("inner")[op] >= 0 and not _turns_off(index, op):
        return False
    statement = index.op_statement[op]
    around = [near for near in (op - 1, op + 1) if 0 <= near < index.op_count and near != op]
    if index.func(op).endswith("__exit__"):
        around = around[:1]
    elif index.func(op).endswith("__enter__"):
        around = [op + 1] if op + 1 < index.op_count else []
    if all(index.op_statement[near] != statement for near in around):
        return True
    return re.search(_IN_SOURCE, index.place(statement).source) is not None


def _turns_off(index: Index, op: int) -> bool:
    """Whether the op after one is called with grad mode off, and the last before its statement was with it on."""
    flags, first = index.recording.ops.column("flags"), op
    while first > max(0, op - _RUN_LOOKED_AT) and index.op_statement[first - 1] == index.op_statement[op]:
        first -= 1
    before, modes = flags[first - 1] if first else GRAD, GRAD | INFERENCE
    return op + 1 < index.op_count and before & modes == GRAD and flags[op + 1] & modes != GRAD


def list_modes(index: Index) -> tuple[ModeChange, ...]:
    """Places that set grad mode, and the first statement of each stretch under inference mode or autocast."""
    found: dict[tuple[int, str], list[int]] = {}
    for statement, ops in settings_by_statement(index).items():
        for op in ops:
            found.setdefault((statement, mode_set(index, op)), []).append(op)
    last = 0
    for op, flags in enumerate(index.recording.ops.column("flags")):
        entered = flags & ~last & (INFERENCE | AUTOCAST)
        if entered:
            mode = "inference_mode" if entered & INFERENCE else "autocast"
            found.setdefault((index.op_statement[op], mode), []).append(op)
        last = flags
    return tuple(
        ModeChange(index.place(statement), mode, True, index.times(where))
        for (statement, mode), where in found.items()
        if statement != NOWHERE
    )


def settings_by_statement(index: Index) -> dict[int, list[int]]:
    """For each statement the calls by which it set grad mode, each once, in order; not those that give it back.

    ``set_grad_enabled`` sets it when it is made, and again when a ``with`` enters it, or for each call of what it
    decorates, by a copy.
    """
    found: dict[int, list[int]] = {}
    for op in index.of_kind(OpKind.MODE):
        if not index.func(op).endswith(_ENDS) and is_user_code(index, op):
            found.setdefault(index.op_statement[op], []).append(op)
    return {statement: _each_once(index, ops) for statement, ops in found.items()}


def _each_once(index: Index, ops: list[int]) -> list[int]:
    of_kind = {op: index.func(op).rpartition(".")[2] for op in ops}
    made = {op for op, method in of_kind.items() if method == "__init__"}
    copies = {op for op, method in of_kind.items() if method == "clone"}
    entered = {op for op in ops if of_kind[op] == "__enter__" and op - 1 in made | copies}
    again = entered | (copies if made else set())
    return [op for op in ops if op not in again]


def mode_set(index: Index, op: int) -> str:
    """The mode that a call set: by the function's name, the statement's text, or what was in force afterwards."""
    for text in (index.func(op), index.op_place(op).source):
        if match := re.search(_IN_SOURCE, text):
            return match[1]
    following = index.recording.ops.column("flags")[op + 1] if op + 1 < index.op_count else GRAD
    return "enable_grad" if following & GRAD else "no_grad"
