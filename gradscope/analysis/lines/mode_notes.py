"""What a statement set grad mode to, in words, as it was measured behind each of its calls."""

from __future__ import annotations

from functools import cached_property

from gradscope.analysis.facts.modes.grad_modes import mode_set, settings_by_statement
from gradscope.analysis.index import Index
from gradscope.recording.flags import GRAD, INFERENCE

_MEASURED = {"set_grad_enabled": GRAD, "inference_mode": INFERENCE}
"""Modes whose name does not say what is set: that is up to an argument."""


class ModeNotes:
    """Writes the notes of statements that set grad mode."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def of(self, statement: int) -> list[str]:
        """What a statement set, in order: ``with no_grad(), set_grad_enabled(True)`` sets two modes."""
        calls: dict[tuple[str, int], list[int]] = {}
        spans = self._index.recording.ops.column("span")
        for op in self._settings.get(statement, ()):
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

    @cached_property
    def _settings(self) -> dict[int, list[int]]:
        return settings_by_statement(self._index)
