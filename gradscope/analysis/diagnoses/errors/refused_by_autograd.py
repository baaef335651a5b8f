"""Errors of autograd that no other diagnosis explains: what torch's message means, and the line to change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.errors.messages_of_autograd import Explained, Where, explained
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.rerun_causes import rerun_cause
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Cause, Evidence, Place, Severity
from gradscope.frames.called_by_torch.closures_given import closure_without_result
from gradscope.frames.modules.name_filters import choice_given
from gradscope.frames.names.used_up_iterators import iterator_given
from gradscope.recording import NONE
from gradscope.recording.flags import RAISED
from gradscope.recording.rows import EventKind, OpKind

_NODE = re.compile(r"Function '(\w+)'")


class _Refused(NamedTuple):
    """A call that raised."""

    op: int
    """The op, or the last one before a call that is none."""
    call: str
    """What was called; empty where only the line is known."""
    line: int
    here: tuple[Cause, ...]
    tensors: tuple[int, ...]
    message: str
    severity: Severity | None
    evidence: tuple[Evidence, ...] = ()


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that raised with each message."""
    last: dict[tuple[int, str], tuple[_Refused, Explained]] = {}
    for one in _refused(sources):
        found = explained(one.message)
        if found is not None and (found.where is not Where.CLOSURE or _closure(sources, one)):
            last[one.line, found.text] = one, found
    for one, found in last.values():
        yield _finding(sources, one, found)


def _finding(sources: Sources, one: _Refused, found: Explained) -> Finding:
    rerun = rerun_cause(sources, one.op) if found.where is Where.CHECKPOINT else None
    if rerun is not None:
        return sources.finding(
            f"Line {one.line}: {one.call} failed",
            why=rerun.why,
            op=one.op,
            tensors=list(one.tensors[:1]),
            causes=rerun.causes,
            advice=rerun.advice,
            severity=one.severity,
        )
    causes = _causes(sources, one, found)
    what = f"{one.call} failed" if one.call else "torch refused what it does"
    at = [cause.line for cause in causes if cause.line != one.line]
    where = f" (line {at[0]})" if at and found.where is not Where.MADE else ""
    finding = sources.finding(
        f"Line {one.line}: {what}",
        why=f"{found.why}{where}",
        op=one.op,
        tensors=list(one.tensors[:1]),
        causes=causes,
        evidence=one.evidence,
        advice=found.advice,
        severity=one.severity,
    )
    if one.here and not one.evidence:
        return finding
    here = one.here[:1]
    return finding._replace(place=_place(here[0])) if here else finding


def _place(cause: Cause) -> Place:
    return Place(cause.file, cause.line, cause.end_line, cause.function, cause.source)


def _refused(sources: Sources) -> Iterator[_Refused]:
    """What raised: calls of torch functions, others that were noted, and what ended the program."""
    index, spans = sources.index, sources.index.recording.ops.column("span")
    text, said = index.recording.text, set[str]()
    for error in index.recording.errors:
        message = text(error.message)
        said.add(message)
        severity = sources.severity_of_error(spans[error.op], text(error.type_name), message)
        taken = tuple(index.uses.of(error.op))
        here = tuple(sources.cause("used", error.op))
        yield _Refused(error.op, index.call_name(error.op), index.op_line(error.op), here, taken, message, severity)
    if not index.op_count:
        return
    for event in sources.events.of(EventKind.REFUSED):
        message, kind = (str(event.detail.get(name, "")) for name in ("message", "error"))
        said.add(message)
        here = tuple(sources.cause_of_event("used", event))
        yield _Refused(
            min(event.op, index.op_count - 1),
            str(event.detail.get("call", "")),
            here[0].line if here else 0,
            here,
            event.tensors,
            message,
            sources.severity_of_error(event.span, kind, message),
            (Evidence("events", event.row),),
        )
    outcome = index.recording.info.outcome
    if outcome.kind == "exception" and outcome.file >= 0 and outcome.line > 0 and outcome.message not in said:
        at = sources.cause_of_line("used", outcome.file, outcome.line, outcome.line, "")
        last = index.op_count - 1
        yield _Refused(last, "", at.line, (at,), (), outcome.message, None, (Evidence("ops", last),))


def _causes(sources: Sources, one: _Refused, found: Explained) -> list[Cause]:
    """The lines to change, the first one first; the line that raised where nothing better is known."""
    found_there = _by_where(sources, one, found)
    return found_there if found.where is Where.CLOSURE else [*found_there, *one.here]


def _by_where(sources: Sources, one: _Refused, found: Explained) -> list[Cause]:
    if found.where is Where.MADE:
        flagged = [tensor for tensor in one.tensors if not sources.index.is_leaf(tensor)] or list(one.tensors[-1:])
        return [cause for tensor in flagged for cause in sources.made_at(tensor)]
    if found.where is Where.FORWARD:
        return sources.cause("used", _last_call(sources, one.op, found.looks_for))
    if found.where is Where.NODE:
        return _of_node(sources, one)
    if found.where is Where.HOOK:
        return _of_hooks(sources, one)
    if found.where is Where.CHECKPOINT:
        kinds = (EventKind.CHECKPOINT, EventKind.REENTRANT_CHECKPOINT)
        calls = [event for kind in kinds for event in sources.events.of(kind) if event.op <= one.op]
        spans = {event.span for event in calls if event.detail.get("begins")}
        return sources.cause_of_span("used", spans.pop()) if len(spans) == 1 else []
    if found.where is Where.ITERATOR:
        return _iterator(sources, one)
    if found.where is Where.CLOSURE:
        return _closure(sources, one)
    if found.where in (Where.TEXT, Where.FUNCTION):
        return _in_text(sources, found.looks_for)
    return []


def _last_call(sources: Sources, before: int, names: tuple[str, ...]) -> int:
    """The last call of a function before an op, by parts of its name; NONE where there was none."""
    index, flags = sources.index, sources.index.recording.ops.column("flags")
    calls = (op for op in range(min(before, index.op_count) - 1, NONE, -1) if not flags[op] & RAISED)
    return next((op for op in calls if any(name in index.func(op) for name in names)), NONE)


def _of_node(sources: Sources, one: _Refused) -> list[Cause]:
    """The forward line of the last node before an op that has the name in the message."""
    index, nodes = sources.index, sources.index.recording.nodes
    named = _NODE.search(one.message)
    names, made_at = nodes.column("name"), nodes.column("op")
    alike = (
        node
        for node in range(len(nodes) - 1, -1, -1)
        if named and made_at[node] <= one.op and index.recording.text(names[node]) == named[1]
    )
    found = next(alike, None)
    return [] if found is None else sources.cause("used", made_at[found])


def _of_hooks(sources: Sources, one: _Refused) -> list[Cause]:
    """Where the hooks were registered that a pass may have run: of tensors those that gave something, else modules'."""
    passes = (OpKind.BACKWARD, OpKind.GRAD)
    if sources.index.recording.ops.column("kind")[one.op] not in passes:
        return []
    hooks = [hook for hook in sources.hooks.all if hook.registered[0].op <= one.op]
    gave = [hook for hook in hooks if hook.is_on_tensor and hook.count("returned")]
    on_modules = [hook for hook in hooks if hook.kind in ("backward", "backward_pre")]
    chosen = on_modules if "Backward hook" in one.message else gave
    if len(chosen) != 1:
        return []
    lines = [chosen[0].lines(*where) for where in chosen[0].source.returns]
    return [*sources.causes_at("returned", lines), *sources.cause_of_event("made", chosen[0].registered[-1])]


def _iterator(sources: Sources, one: _Refused) -> list[Cause]:
    """Where the iterator, or the choice by names, is made that the call is given, as the text of the file says."""
    for number, file in enumerate(sources.index.recording.files):
        is_here = bool(one.here) and file.name == one.here[0].file
        given = iterator_given(file.text, one.line) if is_here else None
        lines = given[1:] if given is not None else choice_given(file.text, one.line) if is_here else None
        if lines is not None:
            return [sources.cause_of_line("made", number, *lines, one.here[0].function)]
    return []


def _closure(sources: Sources, one: _Refused) -> list[Cause]:
    """The function that a step is given and that returns nothing: its header, and its last statement."""
    for number, file in enumerate(sources.index.recording.files):
        is_here = bool(one.here) and file.name == one.here[0].file
        found = closure_without_result(file.text, one.line) if is_here else None
        if found is not None:
            header, first, last = found
            lines = ((header, header), (first, last))
            return [sources.cause_of_line("returned", number, *each, one.here[0].function) for each in lines]
    return []


def _in_text(sources: Sources, parts: tuple[str, ...]) -> list[Cause]:
    """The only line of the user's files that has one of some texts; empty where there are several."""
    found = [
        (number, line)
        for number, file in enumerate(sources.index.recording.files)
        if file.is_user
        for line, source in enumerate(file.text.split("\n"), 1)
        if any(part in source for part in parts) and not source.lstrip().startswith(("#", "import ", "from "))
    ]
    return [sources.cause_of_line("made", file, line, line, "") for file, line in found] if len(found) == 1 else []


DIAGNOSIS = Diagnosis(
    code="refused-by-autograd",
    title="autograd refused a call",
    severity="problem",
    explanation=Explanation(
        meaning="""torch raised an error of autograd's, or of an optimizer or a checkpoint that works with it. The
            sentence says what it means and names the line to change: often an earlier one than that which raised.""",
        reason="""Autograd checks what it is given when it needs it: a hook's result when the gradient comes by, an
            operation's derivative in the backward pass, a checkpointed function when it is run again.""",
        remedy="""What the sentence advises. torch's own message, which the program printed, has the details.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.rand(4, 2, requires_grad=True)
q, r = torch.linalg.qr(w, mode="complete")
q.sum().backward()
""",
        instead_of='q, r = torch.linalg.qr(w, mode="complete")',
        silent='q, r = torch.linalg.qr(w, mode="reduced")',
    ),
    find=_find,
)
