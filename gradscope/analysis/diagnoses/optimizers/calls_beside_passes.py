"""The call of a helper by which a program does something beside a backward pass: what comes first is decided there."""

from __future__ import annotations

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Cause, CauseRole
from gradscope.frames.calls.calls_beside import call_beside


def called_beside(sources: Sources, role: CauseRole, done: int, passed: int) -> tuple[str, Cause] | None:
    """What is called, as written (``engine.clear``), and its line as a cause.

    None where both stand in one function, in two files, or where it is not sure which call it is.

    Args:
        sources: The facts.
        role: The part that the call has.
        done: The op that does it.
        passed: The backward pass.
    """
    index = sources.index
    file, other = (index.statements[index.op_statement[op]].file for op in (done, passed))
    text = index.recording.files[file].text if 0 <= file == other else ""
    call = call_beside(text, int(index.op_line(done)), [int(index.op_line(passed))])
    return None if call is None else (call.called, sources.cause_of_line(role, file, call.line, call.end_line, ""))
