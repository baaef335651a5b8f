"""``modified by an inplace operation`` where a hook wrote the parameters in an earlier pass."""

from __future__ import annotations

from collections.abc import Container, Iterator

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.hook_writes import HookWrite, written_by_hooks
from gradscope.analysis.report_model import Cause, Evidence, Severity

_MESSAGE = "modified by an inplace operation"


def found_in_hooks(sources: Sources, explained: Container[int]) -> Iterator[Finding]:
    """One finding for each pass (an op) that failed and that no write which was seen explains."""
    for op, _, severity in sources.raised(_MESSAGE):
        if op not in explained:
            found = written_by_hooks(sources.index, sources.passes, sources.hooks, op)
            if found is not None:
                yield _finding(sources, found, op, severity)


def _finding(sources: Sources, found: HookWrite, failed: int, severity: Severity | None) -> Finding:
    index, hook = sources.index, found.hook
    names = sources.listed([sources.names.of(tensor) for tensor in found.tensors])
    registered = sources.cause_of_event("made", hook.registered[0])
    line = registered[0].line if registered else 0
    return sources.finding(
        f"Line {line}: {hook.name}, a hook that runs inside backward, writes {names} as soon as the backward at line "
        f"{index.op_line(found.written_in)} has a gradient for it; the graph of the backward at line "
        f"{index.op_line(failed)} was made before and needs the old values, therefore it failed",
        why="",
        op=failed,
        tensors=found.tensors,
        causes=[*registered, *_step(sources, found), *sources.cause("backward", found.written_in)],
        evidence=[Evidence("saved", found.saved_row), Evidence("ops", failed)],
        advice="Make one pass of the sum of the losses, or step when all passes are over.",
        severity=severity,
    )


def _step(sources: Sources, found: HookWrite) -> list[Cause]:
    """The line of the hook that makes the optimizer's step."""
    step = found.hook.source.calls("step")
    return sources.causes_at("write", [found.hook.lines(*step)]) if step is not None else []
