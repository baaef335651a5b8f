"""Statements of code that ran which name a method and do not call it."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.index import Index
from gradscope.frames.without_effect.uncalled_methods import Uncalled, uncalled_methods


class NotCalled(NamedTuple):
    """One statement."""

    file: int
    statement: Uncalled
    function: str
    op: int
    """The last op of the block that it is in."""


def methods_not_called(index: Index) -> list[NotCalled]:
    """Those of the user's files in whose block a call was seen."""
    found: list[NotCalled] = []
    for number, file in enumerate(index.recording.files):
        for one in uncalled_methods(file.text) if file.is_user else ():
            ops = [
                op
                for statement, op in index.last_op.items()
                if index.statements[statement].file == number
                and one.first <= index.statements[statement].line <= one.last
            ]
            if ops:
                found.append(NotCalled(number, one, index.op_place(max(ops)).function, max(ops)))
    return found
