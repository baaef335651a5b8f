"""The first and the last lines of the screen: what was run, and the counts."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from gradscope.analysis.report_model import AfterLimit, Graph, Place, Report
from gradscope.analysis.sizes import size
from gradscope.recording.program_end import program_end
from gradscope.report.screen.text import Symbols, safe

NEW_LINES = 8
"""Lines that are named which ran only after ``--max-ops`` was reached."""


def counted(count: int, what: str, plural: str = "") -> str:
    """``1 line``, ``2 lines``"""
    return f"{count:,} {what if count == 1 else plural or what + 's'}"


def header(report: Report) -> Text:
    """What was run and how it ended."""
    run = report.run
    text = Text.assemble(("gradscope", "bold"), " ", (safe(run.target or run.kind), "bold"))
    if run.title:
        text.append(f"  {safe(run.title)}", style="italic")
    if run.world_size > 1:
        text.append(f"  rank {run.rank} of {run.world_size}", style="bold")
    if run.child:
        text.append(f"  child {safe(run.child)}", style="bold")
    style = "green" if run.outcome == "ok" and not run.error_message else "bold red"
    text.append(f"  {outcome(report)}", style=style)
    return text


def graph_title(graph: Graph) -> str:
    """Which graph it is, and how large."""
    where = f", backward at line {graph.line}" if graph.line else ""
    return safe(f"Graph of {graph.root}{where}: {counted(graph.nodes, 'node')}, {graph.depth:,} deep")


def outcome(report: Report) -> str:
    """How the run ended, in words."""
    run = report.run
    where = f" at line {run.error_place.line}" if run.error_place else ""
    if run.outcome == "exception":
        return f"raised {safe(run.error_type)}{where}"
    if run.outcome == "exit":
        return program_end(run.outcome, run.exit_code, "")
    if run.outcome == "running":
        return safe(run.error_message) or "was cut off while it ran: what follows is what had been recorded"
    if run.outcome == "ok" and run.error_message:
        return f"ran to its end, but {safe(run.error_message)}"
    return f"{program_end(run.outcome, run.exit_code, safe(run.error_message)) or run.outcome}{where}"


def summary(report: Report, marks: Symbols, with_memory: bool = True) -> RenderableType:
    """Counts over the whole run, and what it took of memory."""
    return Group(*totals(report, marks, with_memory))


def totals(report: Report, marks: Symbols, with_memory: bool = True) -> list[Text]:
    """The lines of the summary."""
    numbers, memory = report.summary, report.memory
    inside = f" with {numbers.backwards_inside:,} more inside" if numbers.backwards_inside else ""
    first = [
        counted(numbers.ops, "op"),
        f"on {counted(numbers.lines, 'line')}",
        counted(numbers.nodes, "graph node"),
        counted(numbers.backwards, "backward pass", "backward passes") + inside,
    ]
    total = numbers.leaves_with_gradient + numbers.leaves_without_gradient
    if total:
        first.append(f"gradients for {numbers.leaves_with_gradient} of {counted(total, 'leaf', 'leaves')}")
    first.append(f"cut at {counted(numbers.cuts, 'line')}" if numbers.cuts else "0 cuts")
    if numbers.exports:
        first.append(f"tracked values left torch at {counted(numbers.exports, 'place')}")
    hooked = f" (not counted: what {counted(memory.hooked_ops, 'op')} saved under saved-tensor hooks)"
    second = [
        f"peak at least {size(memory.peak_bytes)}{_at(memory.peak_place)}",
        f"saved for backward {size(memory.saved_bytes)}{hooked if memory.hooked_ops else ''}",
        f"gradients {size(memory.gradient_bytes)}",
        f"still in use {size(memory.live_bytes)}",
    ]
    parts = [Text(", ".join(first))]
    if with_memory:
        parts.append(Text("tensor memory: " + ", ".join(second)))
    parts += [
        Text(f"{device.device} allocator: {size(device.allocated_bytes)} in use, peak {size(device.peak_bytes)}")
        for device in memory.devices
    ]
    if report.run.children:
        started = counted(report.run.children, "process was", "processes were")
        how = "recorded, too, in files of their own" if report.run.children_followed else "not recorded"
        hint = "" if report.run.children_followed else " (gradscope run --children follow -o FILE)"
        parts.append(Text(f"{started} started from here and {how}{hint}"))
    if numbers.alike:
        text = f"{numbers.alike:,} of the ops were like earlier ones in every respect: counted, not kept (--every-op)"
        parts.append(Text(text, style="dim"))
    if numbers.left_out:
        counts = f"{counted(numbers.left_out, 'op')} left out by --max-ops: counted, not looked at"
        told = (counts, *_after_limit(report.after_limit))
        parts += [Text(f"{marks.warning} {safe(line)}", style="yellow") for line in told]
    if numbers.faults:
        text = f"{marks.warning} {counted(numbers.faults, 'fault')} of gradscope's own: what is shown may be incomplete"
        parts.append(Text(text, style="bold yellow"))
        parts.append(Text(safe(report.faults[0].strip().rpartition("\n")[2]), style="dim"))
    return parts


def _after_limit(after: AfterLimit) -> Iterator[str]:
    """What is known of the run after ``--max-ops`` was reached."""
    if after.not_finite:
        first = f"the first of them pass {after.first_not_finite:,} of the run{_at(after.first_place)}"
        passes = counted(after.passes, "backward pass", "backward passes")
        yield f"after that the loss was not finite in {after.not_finite:,} of {passes}, {first}"
    if after.grew_bytes:
        yield f"after that the process grew by {size(after.grew_bytes)} of memory, and was still growing at the end"
    if after.new_lines:
        calls: dict[tuple[str, int], int] = {}
        for call in after.new_lines:
            key = (call.place.file, call.place.line)
            calls[key] = max(calls.get(key, 0), call.count)
        several = len({file for file, _ in calls}) > 1
        shown = [
            f"{f'{file}:' if several else ''}{line:d} (×{count:,})" for (file, line), count in sorted(calls.items())
        ]
        more = f" and {len(shown) - NEW_LINES:,} more" if len(shown) > NEW_LINES else ""
        yield f"after that these lines ran for the first time: {', '.join(shown[:NEW_LINES])}{more}"


def _at(place: Place | None) -> str:
    return f" at line {place.line}" if place is not None and place.line else ""
