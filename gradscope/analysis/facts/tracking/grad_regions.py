"""Which statement had put grad mode off when an op was called: a ``with``, a decorator, or a call."""

from __future__ import annotations

import re
from bisect import bisect_left
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import GRAD, INFERENCE
from gradscope.recording.rows import OpKind

_MODE_IN_SOURCE = re.compile(r"\b(no_grad|set_grad_enabled|inference_mode)\b")


class GradRegions:
    """The ops that set grad mode, and for every op which of them is in force.

    Grad mode belongs to a thread; a region that is left gives back what was in force around it.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._left_at: dict[int, int] = {}
        """For each op that set a mode, the one by which its region was left; filled with what follows."""
        self._outer: dict[int, int] = {}
        """For each the one that was in force around it; likewise."""

    @cached_property
    def _in_force(self) -> dict[int, tuple[list[int], list[int]]]:
        """For each thread: ops that set its mode, and the one in force after each (NONE: none that was seen)."""
        index, ops = self._index, self._index.recording.ops
        threads = ops.column("thread")
        setters: dict[int, tuple[list[int], list[int]]] = {}
        stacks: dict[int, list[int]] = {}
        for op in index.of_kind(OpKind.MODE):
            where, in_force = setters.setdefault(threads[op], ([], []))
            stack = stacks.setdefault(threads[op], [])
            name = index.func(op)
            if name.endswith("__exit__"):
                if stack:
                    self._left_at[stack.pop()] = op
            elif not (name == "set_grad_enabled.__enter__" and stack and self._is_set_by(stack[-1], op)):
                self._outer[op] = stack[-1] if stack else NONE
                stack.append(op)  # (``with set_grad_enabled(…)`` has set it already when it was made)
            where.append(op)
            in_force.append(stack[-1] if stack else NONE)
        return setters

    def _is_set_by(self, setter: int, entered: int) -> bool:
        """Whether the ``with`` of an op enters what that very statement made."""
        statements = self._index.op_statement
        made = self._index.func(setter) == "set_grad_enabled.__init__"
        return made and statements[setter] == statements[entered]

    def of(self, op: int) -> int:
        """The op that had put grad mode off when an op was called; NONE where it was on, or nothing was seen to."""
        is_on = self._index.recording.ops.column("flags")[op] & (GRAD | INFERENCE) == GRAD
        return NONE if is_on else self.around(op)

    def around(self, op: int) -> int:
        """The op that had put grad mode off around one, even if torch's own Python switched it on again in there."""
        flags, threads = (self._index.recording.ops.column(name) for name in ("flags", "thread"))
        where, in_force = self._in_force.get(threads[op], ([], []))
        before = bisect_left(where, op) - 1
        setter = in_force[before] if before >= 0 else NONE
        # (what switches gradients on in inference mode does not end that)
        while setter >= 0 and flags[setter] & (GRAD | INFERENCE) == GRAD | INFERENCE and not self._is_inference(setter):
            setter = self._outer[setter]
        return setter if setter >= 0 and flags[setter] & (GRAD | INFERENCE) != GRAD else NONE

    def _is_inference(self, setter: int) -> bool:
        return self._index.func(setter).startswith("inference_mode")

    def off_in(self, thread: int, op: int) -> int:
        """The op by which a thread's code had put grad mode off when another thread made an op; NONE for none."""
        flags = self._index.recording.ops.column("flags")
        where, in_force = self._in_force.get(thread, ([], []))
        before = bisect_left(where, op) - 1
        setter = in_force[before] if before >= 0 else NONE
        is_off = setter >= 0 and flags[setter] & (GRAD | INFERENCE) != GRAD and self._is_written(setter)
        return setter if is_off else NONE

    def is_inside_function(self, op: int) -> bool:
        """Whether an op ran in the forward of a custom Function (or in reentrant checkpoint, which is one).

        Autograd switches grad mode off there itself, so that no call is seen to: it was on when the thread's last call
        that set it was over, and is off now.
        """
        ops = self._index.recording.ops
        if ops.column("kind")[op] == OpKind.GROUP:  # torch's own Python, which sets modes for itself
            return False
        first = self._first_tracked.get(ops.column("thread")[op], op)
        if ops.column("flags")[op] & (GRAD | INFERENCE) or first >= op:
            return False
        return self.of(op) < 0 or self._around(op) == NONE  # (or in a no_grad that the forward has itself)

    def is_tracked_inside_others(self, op: int) -> bool:
        """Whether an op ran with gradients switched on by a ``with``, where a custom Function's forward, or a library,
        had switched them off."""
        around = self._around(op)
        return around == NONE or (around is not None and not self._is_written(around))

    def _around(self, op: int) -> int | None:
        """What had put grad mode off around the ``with`` in which an op ran; None where it is on there.

        NONE where autograd had put it off itself, in a custom Function's forward.
        """
        flags, threads = (self._index.recording.ops.column(name) for name in ("flags", "thread"))
        where, in_force = self._in_force.get(threads[op], ([], []))
        before = bisect_left(where, op) - 1
        left = self._left_at.get(in_force[before], NONE) if before >= 0 else NONE
        if left < 0 or flags[left] & (GRAD | INFERENCE):
            return None
        return in_force[bisect_left(where, left)]

    @cached_property
    def _first_tracked(self) -> dict[int, int]:
        """The first op of each thread that was called with grad mode on."""
        ops = self._index.recording.ops
        first: dict[int, int] = {}
        for op, (flags, thread) in enumerate(zip(ops.column("flags"), ops.column("thread"), strict=True)):
            if flags & GRAD and thread not in first:
                first[thread] = op
        return first

    def describe(self, op: int) -> Region | None:
        """The region in which an op was called, for a sentence; None where nothing was seen to open one."""
        setter = self.of(op)
        line = self._index.op_line(setter)
        if not line:
            return None
        return Region(setter, line, self._index.func(setter).partition(".")[0], self._is_written(setter))

    def _is_written(self, setter: int) -> bool:
        return _MODE_IN_SOURCE.search(self._index.op_place(setter).source) is not None


class Region(NamedTuple):
    """A region of the user's code, or of a library's that the user's code called, in which grad mode is off."""

    op: int
    """The op that opened it."""
    line: int
    mode: str
    """``no_grad``, ``inference_mode``, ``set_grad_enabled``."""
    is_written: bool
    """The line itself names the mode; else a library opened it in a call at that line."""
