"""Rows of a report that are in the recording as they are: single ops, errors, watches, how the run ended."""

from __future__ import annotations

from collections import Counter
from typing import Any

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.memory_use import MemoryUse
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.index import NOWHERE, Index
from gradscope.analysis.report_model import AfterLimit, LeftOut, OpRow, Place, RaisedError, RunFacts, WatchRow
from gradscope.analysis.view import RunView
from gradscope.analysis.worded_lines import line_of
from gradscope.recording import NONE, Recording
from gradscope.recording.flags import AUTOCAST, GRAD, INFERENCE
from gradscope.recording.rows import EventKind

SAMPLES = 8
"""Looks at the memory of a process from which it is said to grow."""
GROWN_BYTES = 64 << 20
"""What it must have grown by, at least."""


def run_facts(recording: Recording) -> RunFacts:
    """What was run, and how it ended."""
    info, outcome = recording.info, recording.info.outcome
    place = None
    if 0 <= outcome.file < len(recording.files):
        source = recording.source(outcome.file, outcome.line)
        line = line_of(recording, outcome.file, outcome.line)
        place = Place(recording.files[outcome.file].name, line, outcome.line, "", source)
    return RunFacts(
        target=info.target,
        kind=info.kind,
        title=info.title,
        outcome=outcome.kind,
        exit_code=outcome.exit_code,
        error_type=outcome.error_type,
        error_message=outcome.message,
        error_place=place,
        duration_ns=info.duration_ns,
        started_at=info.started_at,
        torch=info.torch,
        python=info.python,
        gradscope=info.gradscope,
        host=info.host,
        rank=info.rank,
        local_rank=info.local_rank,
        world_size=info.world_size,
        child=info.child,
        children=info.children,
        children_followed=info.children_followed,
        last_place=_last_place(recording),
    )


def _last_place(recording: Recording) -> Place | None:
    for number in reversed(recording.ops.column("span")):
        if number != NONE:
            span = recording.spans[number]
            source = recording.source(span.file, span.stmt_line, span.stmt_end_line)
            function = recording.text(span.function)
            line = line_of(recording, span.file, span.stmt_line)
            return Place(recording.files[span.file].name, line, span.stmt_end_line, function, source)
    return None


def list_errors(index: Index) -> tuple[RaisedError, ...]:
    """Ops that raised, equal ones of one statement as one."""
    found: dict[tuple[int, int, int, int], RaisedError] = {}
    text = index.recording.text
    for row in index.recording.errors:
        statement, func = index.op_statement[row.op], index.recording.ops.column("func")[row.op]
        key = (statement, func, row.type_name, row.message)
        if key in found:
            found[key] = found[key]._replace(executions=found[key].executions + index.weights[row.op])
        else:
            found[key] = RaisedError(
                index.place(statement), text(func), text(row.type_name), text(row.message), index.weights[row.op]
            )
    return tuple(found.values())


def list_watches(index: Index, names: BestNames) -> tuple[WatchRow, ...]:
    """Watched expressions; equal results one after another are one row."""
    recording = index.recording
    rows: list[WatchRow] = []
    last: dict[tuple[int, int, int], int] = {}
    for watch in recording.watches:
        key = (watch.expression, watch.file, watch.line)
        text, position = recording.text(watch.text), last.get(key)
        if position is not None and rows[position].text == text and rows[position].failed == bool(watch.failed):
            rows[position] = rows[position]._replace(executions=rows[position].executions + 1)
            continue
        file = recording.files[watch.file].name if 0 <= watch.file < len(recording.files) else ""
        place = Place(file, watch.line, watch.line, "", recording.source(watch.file, watch.line))
        last[key] = len(rows)
        name = names.of(watch.tensor)
        rows.append(WatchRow(recording.text(watch.expression), place, text, name, bool(watch.failed), 1))
    return tuple(rows)


def left_out(index: Index) -> tuple[LeftOut, ...]:
    """Calls that ``--max-ops`` left out; while a program runs, a file gets several rows of one call."""
    counts: Counter[tuple[int, int]] = Counter()
    for row in index.recording.left_out:
        counts[row.span, row.func] += row.left_out
    return tuple(
        LeftOut(index.place(index.statement_of_span[span]), index.recording.text(func), count)
        for (span, func), count in counts.items()
    )


def after_limit(index: Index, events: Events, calls: tuple[LeftOut, ...]) -> AfterLimit:
    """What is known from the limit on, where it was reached; calls are those that were left out."""
    spans = dict.fromkeys((row.span, row.func) for row in index.recording.left_out)
    statements = [index.statement_of_span[span] for span, _ in spans]
    ran = set(index.op_statement)
    new = tuple(call for at, call in zip(statements, calls, strict=True) if at != NOWHERE and at not in ran)
    for event in events.of(EventKind.AFTER_LIMIT):
        passes, not_finite = (event.detail.get(name, 0) for name in ("passes", "not_finite"))
        place = index.place(index.statement_of_span[event.span]) if event.span >= 0 else None
        return AfterLimit(passes, not_finite, event.subject, place, new, _growth(event.detail.get("resident")))
    return AfterLimit(new_lines=new)


def _growth(resident: Any) -> int:
    """By how much memory grew that was looked at before the passes 1, 2, 4 … and at the end, if it did so all the time.

    Where every pass keeps something the second half of the passes adds as much as the first: an allocator that only
    takes what it needs for its first passes has taken it by then.
    """
    if not isinstance(resident, list) or len(resident) < SAMPLES or not all(type(one) is int for one in resident):
        return 0
    first, *_, middle, last = resident
    total = last - first
    is_much = first > 0 and total >= max(GROWN_BYTES, first // 4)
    return total if is_much and last - middle >= total // 4 and resident[2:] == sorted(resident[2:]) else 0


def list_ops(index: Index, names: BestNames, use: MemoryUse, view: RunView) -> tuple[OpRow, ...]:
    """Every single op (of the lines asked for)."""
    errors = {row.op: index.recording.text(row.message) for row in index.recording.errors}
    return tuple(
        _op_row(index, names, use, op, errors.get(op, ""))
        for op in range(index.op_count)
        if view.lines is None or view.lines[0] <= index.op_line(op) <= view.lines[1]
    )


def _op_row(index: Index, names: BestNames, use: MemoryUse, op: int, error: str) -> OpRow:
    recording = index.recording
    row = recording.ops[op]
    statement = index.statements[index.op_statement[op]]
    outputs = index.tensors_made(op) or list(index.results.of(op))
    tensor = recording.tensors[outputs[0]] if outputs else None
    layout = recording.layouts[tensor.layout] if tensor else None
    modes = []
    if row.flags & INFERENCE:
        modes.append("inference_mode")
    elif not row.flags & GRAD:
        modes.append("no_grad")
    if row.flags & AUTOCAST:
        modes.append("autocast")
    return OpRow(
        op=op,
        func=recording.text(row.func),
        file=recording.files[statement.file].name if index.op_statement[op] != NOWHERE else "",
        line=index.op_line(op),
        function=recording.text(statement.function),
        thread=row.thread,
        inputs=tuple(names.at(tensor, op) for tensor in index.uses.of(op)),
        outputs=tuple(names.at(tensor, op) for tensor in outputs),
        shape=recording.text(layout.shape) if layout else "",
        dtype=recording.text(layout.dtype) if layout else "",
        requires_grad=index.requires_grad(outputs[0], op + 1) if outputs else None,
        grad_fn=recording.text(recording.nodes.column("name")[tensor.node]) if tensor and tensor.node >= 0 else "",
        allocated_bytes=use.allocated[op],
        modes=tuple(modes),
        error=error,
    )
