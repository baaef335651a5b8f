"""Trace events as JSON, for Perfetto (ui.perfetto.dev) and chrome://tracing: lines and calls as slices, memory beside.

As the Trace Event Format says: complete events (``X``), counters (``C``) and metadata (``M``). A recording has no
times: one call takes one microsecond, so the axis counts calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from gradscope.analysis.facts.program.op_timeline import OpTimeline, TimedCall, TimedStatement
from gradscope.report.json_values import to_text
from gradscope.report.run.run_result import RunResult
from gradscope.report.screen.text import safe

AXIS = "one microsecond is one call: a recording has no times"
_PROCESS = 1
_LONGEST = 80
"""Characters of a slice's name."""


def write(result: RunResult, stream: TextIO) -> None:
    """Write the trace, an event a line."""
    info, timeline = result.recording.info, OpTimeline(result.recording)
    about = {"target": info.target, "axis": AXIS, "torch": info.torch, "gradscope": info.gradscope}
    left_out = sum(result.recording.left_out.column("left_out"))
    if left_out:
        about["left out"] = f"{left_out} calls, by --max-ops"
    alike = sum(result.recording.alike.column("times"))
    if alike:
        about["not kept"] = f"{alike} calls that were like others"
    stream.write(f'{{"displayTimeUnit": "ns", "otherData": {to_text(about)}, "traceEvents": [\n')
    stream.write(",\n".join(map(to_text, _threads(timeline, safe(info.target or info.kind)))))
    for event in _events(timeline):
        stream.write(f",\n{to_text(event)}")
    stream.write("\n]}\n")


def _threads(timeline: OpTimeline, target: str) -> Iterator[Mapping[str, Any]]:
    yield {"ph": "M", "pid": _PROCESS, "name": "process_name", "args": {"name": target}}
    for thread, name in enumerate(timeline.threads):
        yield {"ph": "M", "pid": _PROCESS, "tid": thread, "name": "thread_name", "args": {"name": safe(name)}}


def _events(timeline: OpTimeline) -> Iterator[Mapping[str, Any]]:
    yield from map(_statement, timeline.statements())
    shown = None
    for call in timeline.calls():
        yield _call(call)
        if call.live_bytes != shown:
            shown = call.live_bytes
            yield {
                "ph": "C",
                "pid": _PROCESS,
                "ts": call.op,
                "name": "tensor memory",
                "args": {"bytes in use": shown},
            }


def _statement(one: TimedStatement) -> Mapping[str, Any]:
    place = one.place
    source = " ".join(safe(place.source).split())
    shown = f"{place.line:d}: {source}"
    return {
        "ph": "X",
        "pid": _PROCESS,
        "tid": one.thread,
        "ts": one.first_op,
        "dur": one.last_op - one.first_op + 1,
        "cat": "line",
        "name": shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…",
        "args": {"file": safe(place.file), "line": place.line, "function": safe(place.function)},
    }


def _call(call: TimedCall) -> Mapping[str, Any]:
    facts: dict[str, Any] = {"inputs": list(map(safe, call.inputs)), "outputs": list(map(safe, call.outputs))}
    if call.allocated_bytes:
        facts["allocated bytes"] = call.allocated_bytes
    if call.raised:
        facts["raised"] = True
    return {
        "ph": "X",
        "pid": _PROCESS,
        "tid": call.thread,
        "ts": call.op,
        "dur": 1,
        "cat": call.kind,
        "name": safe(call.name),
        "args": facts,
    }
