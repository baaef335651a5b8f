"""Rows are moved to a recording's columns whole, also where a signal handler of the program's raises in between."""

from __future__ import annotations

import linecache
import sys
from types import FrameType
from typing import Any

import pytest

from gradscope.frames.replacements import Replacement
from gradscope.recorder.tape import Tape
from gradscope.recording import Recording

STEPS = 400
"""More than moving the rows below takes."""


def _tape() -> Tape:
    tape = Tape(Recording())
    for _ in range(3):
        op = tape.add_op(tape.text("Tensor.mul"), 0, -1, -1, 0, 1)
        tape.pending["uses"] += (op, 0, op, 1)
        tape.pending["tensors"] += (op, 2**20, 0, -1, 2, -1)
    tape.tensor_deaths += (1, 2)
    return tape


def _columns(recording: Recording) -> dict[str, dict[str, list[int]]]:
    return {
        name: {column: list(values) for column, values in table.columns.items()}
        for name, table in recording.tables.items()
    }


def _raising_at(step: int) -> Any:
    """A trace function that raises at one of the lines of what is called, once, as a signal handler may.

    Between a statement without a call and the next one Python runs no handler: ``del values[:count]`` is left out.
    """
    left = [step]

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        file = frame.f_code.co_filename
        is_ours = file.endswith(("tape.py", "tables.py")) and event in ("line", "return")
        if is_ours and "del values[:count]" not in linecache.getline(file, frame.f_lineno):
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
        return trace

    return trace


def test_a_move_that_was_interrupted_anywhere_is_completed_once() -> None:
    whole = _tape()
    whole.flush()
    expected, interrupted = _columns(whole.recording), 0
    for step in range(1, STEPS):
        tape, before = _tape(), sys.gettrace()
        try:
            sys.settrace(_raising_at(step))
            tape.flush()
        except KeyboardInterrupt:
            interrupted += 1
        finally:
            sys.settrace(before)
        tape.flush()
        assert _columns(tape.recording) == expected, step
    assert 50 < interrupted < STEPS - 1


class _Owner:
    name = "theirs"


def test_a_replacement_is_put_again_only_where_nobody_has_put_anything_else_since() -> None:
    replacement = Replacement(_Owner, "name", lambda there: f"ours for {there}")
    replacement.put_back()
    assert replacement.put_again()
    assert _Owner.name == "ours for theirs"
    replacement.put_back()
    _Owner.name = "another"
    try:
        assert not replacement.put_again()
        assert _Owner.name == "another"
    finally:
        _Owner.name = "theirs"


@pytest.fixture(autouse=True)
def _as_it_was() -> Any:
    yield
    assert _Owner.name == "theirs"
