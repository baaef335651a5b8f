"""The line at which a program has gradients cleared: where helpers of its own do it, the line that calls one."""

from __future__ import annotations

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Cause
from gradscope.frames.calls_beside import call_beside


def call_that_clears(sources: Sources, cleared: int, passed: int) -> tuple[str, list[Cause]]:
    """``line 8 (engine.clear)``, and that line as a cause.

    It is the call beside which the program has the pass run: what comes before what is decided there.

    Args:
        sources: The facts.
        cleared: The op that clears.
        passed: A backward pass whose gradients it clears.
    """
    index = sources.index
    file, other = (index.statements[index.op_statement[op]].file for op in (cleared, passed))
    text = index.recording.files[file].text if 0 <= file == other else ""
    call = call_beside(text, int(index.op_line(cleared)), [int(index.op_line(passed))])
    if call is None:
        name = index.call_name(cleared).removeprefix("optim.")
        return f"line {index.op_line(cleared)} ({name})", sources.cause("cleared", cleared)
    cause = sources.cause_of_line("cleared", file, call.line, call.end_line, "")
    return f"line {cause.line} ({call.called})", [cause]
