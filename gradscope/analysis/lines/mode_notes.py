"""What a statement set grad mode to, in words, as it was measured behind each of its calls."""

from __future__ import annotations

from functools import cached_property

from gradscope.analysis.facts.modes.grad_modes import is_user_code, mode_set
from gradscope.analysis.index import Index
from gradscope.recording.flags import GRAD, INFERENCE
from gradscope.recording.rows import OpKind

_MEASURED = {"set_grad_enabled": GRAD, "inference_mode": INFERENCE}
"""Modes whose name does not say what is set: that is up to an argument."""
_ENDS = ("__exit__", "__call__")
"""Give back what was in force before: the end of a ``with``, and that a decorator has been made."""


class ModeNotes:
    """Writes the notes of statements that set grad mode."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def of(self, statement: int) -> list[str]:
        """What a statement set, in order: ``with no_grad(), set_grad_enabled(True)`` sets two modes."""
        calls: dict[tuple[str, int], list[int]] = {}
        spans = self._index.recording.ops.column("span")
        for op in self._set_by(statement):
            calls.setdefault((mode_set(self._index, op), spans[op]), []).append(op)
        notes: list[str] = []
        for (mode, _), runs in calls.items():
            note = self._note(mode, runs)
            if note not in notes[-1:]:
                notes.append(note)
        return notes

    def _note(self, mode: str, runs: list[int]) -> str:
        if mode not in _MEASURED:
            return f"sets {mode}"
        flags = self._index.recording.ops.column("flags")
        on, total = self._index.times(op for op in runs if flags[op] & _MEASURED[mode]), self._index.times(runs)
        what = "grad mode" if mode == "set_grad_enabled" else "inference mode"
        times = f" in {on:,} of {total:,} runs" if 0 < on < total else ""
        return f"switches {what} {'on' if on else 'off'}{times}"

    def _set_by(self, statement: int) -> list[int]:
        """The ops by which a statement set a mode, each once.

        ``set_grad_enabled`` sets it when it is made, and again when a ``with`` enters it, or for each call of what it
        decorates, by a copy.
        """
        ops = self._ops.get(statement, [])
        of_kind = {op: self._index.func(op).rpartition(".")[2] for op in ops}
        made = {op for op, method in of_kind.items() if method == "__init__"}
        copies = {op for op, method in of_kind.items() if method == "clone"}
        entered = {op for op in ops if of_kind[op] == "__enter__" and op - 1 in made | copies}
        again = entered | (copies if made else set())
        return [op for op in ops if op not in again]

    @cached_property
    def _ops(self) -> dict[int, list[int]]:
        """For each statement the calls by which it set a mode, in order."""
        found: dict[int, list[int]] = {}
        for op in self._index.of_kind(OpKind.MODE):
            if not self._index.func(op).endswith(_ENDS) and is_user_code(self._index, op):
                found.setdefault(self._index.op_statement[op], []).append(op)
        return found
