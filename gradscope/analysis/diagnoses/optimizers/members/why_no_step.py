"""Why no optimizer step changed a parameter, as its diagnosis says it."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Cause
from gradscope.analysis.wording import listed


class WhyNoStep(NamedTuple):
    """Why no step changed a parameter, as far as is known."""

    why: str
    causes: tuple[Cause, ...] = ()
    events: tuple[int, ...] = ()
    advice: str = ""
    is_order: bool = False
    """Whether all that is wrong is that the optimizer (its event) was made before them."""
    through: tuple[Cause, ...] = ()
    """Calls by which the constructor that made them has made the optimizer before."""
    name: str = ""
    """What the text calls one of which no name was seen."""


def what_steps_did(index: Index, steps: list[int]) -> str:
    """``line 18 (SGD.step) updated 4 others`` for each place with steps."""
    last = {index.op_statement[op]: op for op in steps}
    calls = index.recording.ops.column("calls")
    return listed([f"line {index.op_line(op)} ({index.func(op)}) updated {_others(calls[op])}" for op in last.values()])


def _others(count: int) -> str:
    return f"{count:,} other{'s' * (count > 1)}" if count else "nothing"
