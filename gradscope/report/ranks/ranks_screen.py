"""The screen of several ranks' recordings: how each ended, what is to be said, and in what they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from gradscope.analysis.comparison.collective_orders import CollectiveParting
from gradscope.analysis.comparison.merged_ranks import MergedRanks, RankDifference, RankRow, lost_its_connection
from gradscope.analysis.comparison.rank_model import ranks_text
from gradscope.analysis.report_model import Severity
from gradscope.analysis.sizes import size
from gradscope.recording.program_end import program_end
from gradscope.report.run.summary import counted
from gradscope.report.screen.text import Symbols, allow_any_text, safe, source_text, symbols

ROWS = 12
"""Differences of one section that are shown."""
_LONGEST = 200
"""Characters of a message that are shown."""
_STYLE: dict[Severity, str] = {"problem": "bold red", "warning": "bold yellow", "note": "cyan"}
_TITLES = {
    "gradients": "Gradients that not all {} have",
    "lines": "Lines that not all {} ran alike",
    "cuts": "Cuts of the graph that not all {} have",
}


def render_ranks(merged: MergedRanks, console: Console) -> None:
    """Print them; the console's width, colours and encoding are respected."""
    allow_any_text(console)
    marks = symbols(console)
    for part in _parts(merged, marks):
        console.print(part, soft_wrap=False, highlight=False, markup=False, emoji=False)


def _parts(merged: MergedRanks, marks: Symbols) -> Iterator[RenderableType]:
    yield Text.assemble(("gradscope", "bold"), " ", (safe(merged.target), "bold"), f"  {_how_many(merged)}")
    if merged.missing:
        yield Text(f"no recording of {ranks_text(merged.missing)} of {merged.world_size}", style="yellow")
    yield Text("")
    yield _table_of_ranks(merged)
    if (why := _why_first(merged)) is not None:
        yield why
    if merged.causes or merged.answers:
        yield Text("")
        yield _answers(merged, marks)
    is_said = any(cause.kind in ("called-by-some-ranks", "layer-on-some-ranks") for cause in merged.causes)
    for parting in () if is_said else merged.collectives:
        yield from _parting(merged, parting, marks)
    for section, differences in groupby(merged.differences, key=lambda one: one.section):
        yield Text(f"\n{_TITLES[section].format(_compared(merged))}", style="bold underline")
        yield from _differences(merged, list(differences), marks)
    if not merged.differences and not merged.collectives and len(merged.ranks) > 1:
        same = "Which lines ran, which gradients arrived and where the graph was cut is the same for all"
        yield Text(f"\n{same} {_compared(merged)}.")


def has_children(merged: MergedRanks) -> bool:
    """Whether there are processes that the program started itself, or none but the program."""
    return any(row.run.child for row in merged.ranks) or merged.world_size < 2


def _how_many(merged: MergedRanks) -> str:
    return counted(len(merged.ranks), *(("process", "processes") if has_children(merged) else ("rank",)))


def _compared(merged: MergedRanks) -> str:
    are_children = has_children(merged) and sum(not row.run.child for row in merged.ranks) < 2
    return "children" if are_children else "ranks"


def processes_text(merged: MergedRanks, numbers: Sequence[int]) -> str:
    """``ranks 0, 2``; where there are children ``program, children 1, 2``."""
    if not has_children(merged):
        return ranks_text(numbers)
    names = [row.name for row in merged.ranks if row.rank in numbers]
    children = [name.removeprefix("child ") for name in names if name.startswith("child ")]
    others = [name for name in names if not name.startswith("child ")]
    return ", ".join([*others, f"child{'ren' * (len(children) > 1)} {', '.join(children)}"] if children else others)


def _table_of_ranks(merged: MergedRanks) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    hosts = {row.host for row in merged.ranks}
    table.add_column("process" if has_children(merged) else "rank", justify="left" if has_children(merged) else "right")
    if len(hosts) > 1:
        table.add_column("host")
    table.add_column("ended", ratio=1)
    for title in ("ops", "passes", "gradients", "saved", "peak"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in merged.ranks:
        first = "  (stopped first)" if row.rank == merged.stopped_first and len(merged.ranks) > 1 else ""
        leaves = row.leaves_with_gradient + row.leaves_without_gradient
        table.add_row(
            row.name if has_children(merged) else str(row.rank),
            *([Text(safe(row.host))] if len(hosts) > 1 else []),
            Text(_ended(row) + first, style="" if row.run.outcome == "ok" else "bold red"),
            f"{row.ops:,}",
            f"{row.backwards:,}",
            f"{row.leaves_with_gradient} of {leaves}",
            size(row.saved_bytes),
            size(row.peak_bytes),
        )
    return table


def _ended(row: RankRow) -> str:
    run = row.run
    where = f" at line {run.error_place.line}" if run.error_place else ""
    if run.outcome == "running":
        last = f", last seen at line {run.last_place.line}" if run.last_place else ""
        return f"its recording has no end{f', it was in {safe(row.waits)}' if row.waits else last}"
    if run.outcome == "exception":
        return f"raised {safe(run.error_type)}{where}"
    ended = safe(program_end(run.outcome, run.exit_code, run.error_message)) or run.outcome
    return ended + (f" in {safe(row.waits)}" if row.waits else where * (run.outcome != "ok"))


def _why_first(merged: MergedRanks) -> Text | None:
    """What is known of the rank that stopped first, with what it raised."""
    row = next((row for row in merged.ranks if row.rank == merged.stopped_first), None)
    if row is None or len(merged.ranks) < 2:
        return None
    name = row.name if has_children(merged) else f"rank {row.rank}"
    if row.run.outcome == "running":
        said = "it was killed, or runs yet"
        lost = next((other for other in merged.ranks if other.run.outcome == "exception"), None)
        if lost is not None:
            said = f"it was killed: the first that ended lost its connection ({_first_line(lost.run.error_message)})"
        return Text(f"{name} stopped first: {said}", style="bold")
    message = f": {_first_line(row.run.error_message)}" if row.run.outcome == "exception" else ""
    gone = [other.rank for other in merged.ranks if other.run.outcome == "ok"]
    if gone and lost_its_connection(row):
        passes = {other.backwards for other in merged.ranks if other.rank in gone}
        counts = f" after {passes.pop():,} backward passes, here {row.backwards:,}" if len(passes) == 1 else ""
        ended = f"{ranks_text(gone)} had ended well{counts}"
        return Text(f"{name} lost its connection at {_at(row)}: {ended}", style="bold")
    return Text(f"{name} stopped first: it {_ended(row)}{message}", style="bold")


def _at(row: RankRow) -> str:
    return f"line {row.run.error_place.line}" if row.run.error_place else "an unknown line"


def _first_line(message: str) -> str:
    return safe(next(iter(message.splitlines()), ""))[:_LONGEST]


def _answers(merged: MergedRanks, marks: Symbols) -> Table:
    signs: dict[Severity, str] = {"problem": marks.problem, "warning": marks.warning, "note": marks.note}
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column()
    for cause in merged.causes:
        said = Text.assemble(safe(cause.text), " ", (f"[{cause.kind}]", "dim"))
        table.add_row(Text(f"{signs[cause.severity]} {cause.severity}", style=_STYLE[cause.severity]), said)
    for ranks, answer in merged.answers:
        all_of_them = "all processes" if has_children(merged) else "all ranks"
        whose = all_of_them if len(ranks) == len(merged.ranks) > 1 else processes_text(merged, ranks)
        sentence = Text.assemble((f"{whose}: ", "bold"), safe(answer.text), " ", (f"[{answer.code}]", "dim"))
        table.add_row(Text(f"{signs[answer.severity]} {answer.severity}", style=_STYLE[answer.severity]), sentence)
    return table


def _parting(merged: MergedRanks, parting: CollectiveParting, marks: Symbols) -> Iterator[RenderableType]:
    whose = f" of {ranks_text(parting.group)}" if parting.group else ""
    yield Text(f"\nCollectives{whose}: call {parting.number:,} is not the same for all", style="bold underline")
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(4):
        table.add_column()
    for text, place, returned, ranks in parting.values:
        if place is None:
            for row in (row for row in merged.ranks if row.rank in ranks):
                table.add_row(f"rank {row.rank}", "", f"called none: {_stood(row)}", "")
            continue
        waits = "" if returned else ", which did not return"
        source = source_text(place.source, marks)
        table.add_row(ranks_text(ranks), f"line {place.line}", f"{safe(text)}{waits}", source)
    yield table


def _stood(row: RankRow) -> str:
    """How a rank ended that should have called something: ``raised ValueError at line 9``, ``ended well``."""
    ended = _ended(row)
    return f"it {ended}" if row.run.outcome not in ("ok", "running") else ended.replace("ok", "it came to its end")


def _differences(merged: MergedRanks, differences: list[RankDifference], marks: Symbols) -> Iterator[RenderableType]:
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column()
    for one in differences[:ROWS]:
        values = "; ".join(f"{processes_text(merged, value.ranks)}: {value.text}" for value in one.values)
        subject = Text(safe(one.subject)) if one.subject else source_text(one.place.source, marks)
        table.add_row(f"line {one.place.line}", subject, Text(values))
    yield table
    if len(differences) > ROWS:
        yield Text(f"{marks.dots} {counted(len(differences) - ROWS, 'more')} (-f json)".replace("mores", "more"))
