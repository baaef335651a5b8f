"""The call of a helper by which a program does something beside another thing: what comes first is decided there."""

from __future__ import annotations

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Cause, CauseRole
from gradscope.frames.calls.calls_beside import CallBeside, call_beside, call_between, only_call_of_what_ends
from gradscope.recording import NONE


def called_beside(sources: Sources, role: CauseRole, done: int, passed: int) -> tuple[str, Cause] | None:
    """What is called, as written (``engine.clear``), and its line as a cause.

    None where both stand in one function, in two files, or where it is not sure which call it is.

    Args:
        sources: The facts.
        role: The part that the call has.
        done: The op that does it.
        passed: What it is done beside: a backward pass, a step, an evaluation.
    """
    file, text, lines = _lines(sources.index, done, passed)
    return _called(sources, role, file, call_beside(text, lines[0], lines[1:]))


def called_between(sources: Sources, role: CauseRole, done: int, passed: int, step: int) -> tuple[str, Cause] | None:
    """The same, of a helper that is called several times: the one call that stands behind a pass and before a step."""
    file, text, lines = _lines(sources.index, done, passed, step)
    return _called(sources, role, file, call_between(text, *lines))


def _lines(index: Index, *ops: int) -> tuple[int, str, list[int]]:
    """The file in which some ops are done, its text, and their lines; no text where they are in several."""
    files = {index.statements[index.op_statement[op]].file for op in ops}
    file = files.pop() if len(files) == 1 else NONE
    return file, index.recording.files[file].text if file >= 0 else "", [int(index.op_line(op)) for op in ops]


def _called(sources: Sources, role: CauseRole, file: int, call: CallBeside | None) -> tuple[str, Cause] | None:
    return None if call is None else (call.called, sources.cause_of_line(role, file, call.line, call.end_line, ""))


def where_asked_for(sources: Sources, role: CauseRole, done: int, beside: int) -> tuple[str, list[Cause]]:
    """What the program calls to have something done, as written, and that line: of the op itself where no helper does.

    What a helper does may be right; that it is called there, or that nothing is called to undo it, is not.

    Args:
        sources: The facts.
        role: The part that the line has.
        done: The op that does it.
        beside: An op before or after which it should not be done.
    """
    index, called = sources.index, called_beside(sources, role, done, beside)
    if called is not None:
        return called[0], [called[1]]
    file = index.statements[index.op_statement[done]].file
    text = index.recording.files[file].text if file >= 0 else ""
    call = only_call_of_what_ends(text, int(index.op_line(done)))
    is_beside = call is not None and index.op_place(done).function != index.op_place(beside).function
    if call is None or not is_beside:
        return index.call_name(done), sources.cause(role, done)
    return call.called, [sources.cause_of_line(role, file, call.line, call.end_line, "")]
