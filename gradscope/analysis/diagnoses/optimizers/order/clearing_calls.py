"""The line at which a program has gradients cleared: where helpers of its own do it, the line that calls one."""

from __future__ import annotations

from gradscope.analysis.diagnoses.optimizers.calls_beside_passes import called_beside, called_between
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Cause
from gradscope.recording import NONE


def call_that_clears(sources: Sources, cleared: int, passed: int, step: int = NONE) -> tuple[str, list[Cause]]:
    """``line 8 (engine.clear)``, and that line as a cause.

    It is the call beside which the program has the pass run: what comes before what is decided there.

    Args:
        sources: The facts.
        cleared: The op that clears.
        passed: A backward pass whose gradients it clears.
        step: A step that finds them cleared, where one does.
    """
    index, called = sources.index, called_beside(sources, "cleared", cleared, passed)
    if called is None and step >= 0:
        called = called_between(sources, "cleared", cleared, passed, step)
    if called is None:
        name = index.call_name(cleared).removeprefix("optim.")
        return f"line {index.op_line(cleared)} ({name})", sources.cause("cleared", cleared)
    name, cause = called
    return f"line {cause.line} ({name})", [cause]
