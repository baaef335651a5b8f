"""Keeps a recording small while a program repeats itself: what comes again alike is counted, and taken out.

Every call is recorded in full, as ever. From some size on it is looked now and then whether the last ones are periods
that are alike (:mod:`.alike_periods`). If so, all but the first and the last of these are taken out, with every row
that belongs to them, and the objects of theirs that live are known as those in the same place of a period that is
kept. So whatever differs in any way that is recorded, be it an error, a line that runs for the first time, another
shape, or a gradient that is looked at, is there in full; and what is there is true of a program that ran as often.
"""

from __future__ import annotations

from collections.abc import Callable

from gradscope.recorder.repetition.alike_periods import LEAST, alike_periods, regular_distance
from gradscope.recorder.repetition.rows_taken_out import may_be_taken_out, moves_of, take_out
from gradscope.recorder.state.moves import Moves
from gradscope.recorder.tape import Tape
from gradscope.recorder.uninterrupted import uninterrupted

FROM_BYTES = 12_000_000
"""Bytes of rows that are all kept, those of some 100,000 ops, or fewer where a call makes a hundred nodes; a program of
less is told without any such counting."""

WINDOW = 1 << 18
"""Ops among which a period is looked for that was not found before."""

EVERY = 1 << 14
"""Ops between two looks, at least; where little is found ever more, up to a quarter of the window."""

_SHARES = 8
"""So many stretches of what comes between two looks are compared, and taken out each by itself, at most."""

_NEVER = 1 << 62


class Forgetting:
    """Looks for repetition in what a recorder has recorded.

    Args:
        tape: Of the recording.
        is_quiet: Whether nothing is under way that knows rows by their ids.
        on_move: Called with what becomes of ids, for all who keep some.
    """

    def __init__(self, tape: Tape, is_quiet: Callable[[], bool], on_move: Callable[[Moves], None]) -> None:
        self._tape = tape
        self._is_quiet = is_quiet
        self._on_move = on_move
        self._every = EVERY
        self._next = 0
        self._period = 0
        self._looked_at = 0
        self._between = 0
        """Ops from one stretch of periods to the next: there may be periods as long, of which more has to be seen."""
        self.forgotten = 0
        """Ops that were taken out."""

    def look(self) -> None:
        """Take out what came again, if it is time; the lock is held, and no op is under way."""
        if self._tape.op_count < self._next or not self._is_quiet():
            return
        if not self.forgotten and self._tape.recording.nbytes < FROM_BYTES:
            self._next += EVERY
            return
        self._tape.flush()
        before = self._tape.op_count
        self._next = _NEVER  # (where a look fails, which is a fault of ours, it was the last)
        uninterrupted(self._look)
        gone = before - self._tape.op_count
        wanted = max(EVERY, 4 * self._period, 2 * LEAST * self._between) if gone else 2 * self._every
        self._every = min(wanted, WINDOW // 4)
        self._looked_at = self._tape.op_count
        self._next = self._tape.op_count + self._every

    def _look(self) -> None:
        tape = self._tape
        window = tape.op_count - self._looked_at + 8 * self._period if self._period else WINDOW
        found = alike_periods(tape.recording, min(window, WINDOW), self._period, EVERY // _SHARES)
        gone = sum(one.periods * one.ops for one in found)
        self._period = found[0].ops if gone >= self._every // 4 else 0
        self._between = regular_distance(found)
        for moves in map(moves_of, found) if self._period else ():
            if may_be_taken_out(tape.recording, moves):
                take_out(tape.recording, moves)
                tape.take_out({name: move.stop - move.start for name, move in moves.items()})
                self.forgotten += moves["ops"].stop - moves["ops"].start
                self._on_move(moves)
