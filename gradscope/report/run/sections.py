"""The parts of the screen below the line table: shared memory, graph, gradients, cuts, writes, memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from gradscope.analysis.report_model import (
    AliasGroup,
    AliasMember,
    BackwardPass,
    Cut,
    GradientRow,
    Graph,
    GraphRow,
    InplaceWrite,
    MemoryReport,
    WatchRow,
)
from gradscope.analysis.sizes import size
from gradscope.analysis.worded_lines import numbers
from gradscope.frames.whose_file import package_of
from gradscope.report.run.summary import counted
from gradscope.report.screen.layout import Column, table
from gradscope.report.screen.text import Symbols, cut_to, safe, source_text

_GIVEN = ("created", "accumulated")
_UNNAMED = "<unnamed>"
_LEAST_WORDS = 48
"""Cells that the branches of a graph leave for what a row says."""
_GRADIENT = (
    Column("leaf", minimum=24, keeps_end=True),
    Column("shape", minimum=6),
    Column("gradient"),
    Column("why", wraps=True, minimum=10),
)


class Sections:
    """Renders the parts, each at most ``limit`` rows long.

    Args:
        width: Cells of the screen.
        marks: Symbols.
        limit: Rows of one part.
    """

    def __init__(self, width: int, marks: Symbols, limit: int) -> None:
        self._width = width
        self._marks = marks
        self._limit = limit

    def _more(self, count: int, one: str, several: str = "") -> list[RenderableType]:
        left = count - self._limit
        more = counted(left, f"more {one}", f"more {several}" if several else "")
        return [Text(f"{self._marks.dots} {more} (--all)", style="dim")] if left > 0 else []

    def _table(self, columns: Sequence[Column], cells: list[list[Text]]) -> RenderableType:
        return table(columns, cells, self._width, self._marks)

    def aliases(self, groups: Sequence[AliasGroup]) -> RenderableType:
        """Memory blocks that several names share."""
        columns = [
            Column("memory", minimum=8),
            Column("tensor", minimum=8),
            Column("shape", minimum=6),
            Column("bytes"),
            Column("made", minimum=12),
            Column("version counter", minimum=10),
        ]
        cells: list[list[Text]] = []
        for group in groups[: self._limit]:
            several = f" {self._marks.times}{group.count}" if group.count > 1 else ""
            for at, member in enumerate(group.members[: self._limit]):
                head = Text(f"{group.storage}  {size(group.nbytes)}{several}" if not at else "", style="blue")
                cells.append([head, *self._member(member, group)])
        return Group(self._table(columns, cells), *self._more(len(groups), "block"))

    def _member(self, member: AliasMember, group: AliasGroup) -> list[Text]:
        seen = f"first seen at line {member.line}" if member.line else "not seen"
        made = f"line {member.line}: {safe(member.op)}" if member.op else seen
        own = group.version_groups > 1
        counter = f"counter {member.version_group} of {group.version_groups}" if own else "shared"
        if not member.version_group:
            counter = "not compared"
        bytes_shown = f"{member.first_byte}{self._marks.dash}{member.end_byte}"
        return [
            Text(safe(member.name), style="bold"),
            Text(safe(member.shape)),
            Text(bytes_shown),
            Text(made, style="dim"),
            Text(counter, style="bold red" if own else "dim"),
        ]

    def graph(self, graph: Graph) -> RenderableType:
        """A graph as a tree."""
        rows = graph.rows[: self._limit]
        prefixes = self._prefixes(graph.rows)
        lines = [self._graph_row(row, prefixes[at]) for at, row in enumerate(rows)]
        return Group(*lines, *self._more(len(graph.rows), "row"))

    def _prefixes(self, rows: Sequence[GraphRow]) -> list[str]:
        """The branches before each row."""
        last_child: dict[int, int] = {}
        for at, row in enumerate(rows):
            last_child[row.parent] = at
        below: list[str] = []
        prefixes = []
        for at, row in enumerate(rows):
            if row.parent < 0:
                prefixes.append("")
                below.append("")
                continue
            is_last = last_child[row.parent] == at
            prefixes.append(below[row.parent] + (self._marks.last if is_last else self._marks.branch))
            below.append(below[row.parent] + ("   " if is_last else self._marks.pipe))
        return prefixes

    def _graph_row(self, row: GraphRow, prefix: str) -> Text:
        text = Text.assemble((self._fitting(prefix), "dim"), no_wrap=True)
        if row.folded:
            text.append(f"{self._marks.dots} {row.folded:,} nodes: {safe(row.summary)}", style="dim italic")
            text.append("  (as above)" if row.repeated else "", style="dim")
            return cut_to(text, self._width, self._marks.dots)
        if row.is_leaf:
            text.append(safe(f"{row.tensor} " if row.tensor else ""), style="bold green")
            text.append("leaf" if row.tensor else "leaf without a name", style="dim")
        else:
            text.append(safe(row.name), style="cyan")
            text.append(f" {safe(row.tensor)}" if row.tensor else "", style="bold")
        text.append(f"  line {row.line}" if row.line else "", style="dim")
        if row.repeated:
            text.append("  (as above)", style="dim")
        elif row.saved:
            kept = ", ".join(self._saved(item.attr, item.name) for item in row.saved)
            text.append(f"  saved {kept}: {size(sum(item.nbytes for item in row.saved))}", style="magenta")
        return cut_to(text, self._width, self._marks.dots)

    def _fitting(self, prefix: str) -> str:
        """The branches before a row, the innermost of them where all would leave no room for words."""
        room = max(3, self._width - _LEAST_WORDS)
        return prefix if len(prefix) <= room else f"{self._marks.dots} {prefix[-((room - 2) // 3) * 3 :]}"

    @staticmethod
    def _saved(attr: str, name: str) -> str:
        return safe(f"{attr}={name}" if name else attr)

    def gradients(self, passes: Sequence[BackwardPass]) -> RenderableType:
        """What each backward pass did."""
        parts: list[RenderableType] = []
        every = [row for one in passes for row in one.gradients if not row.name.startswith("<")]
        trained = {row.name for row in every if row.received or row.outcome in _GIVEN}
        for one in passes[: self._limit]:
            parts.append(self._pass_head(one))
            rows = sorted(one.gradients, key=lambda row: (row.outcome in _GIVEN, row.received, row.name == _UNNAMED))
            if left := self._left_as_they_were(rows):
                rows = [row for row in rows if row.outcome != "untouched"]
            alike = _alike(rows)
            cells = [self._gradient(row, count, row.name in trained) for row, count in alike[: self._limit]]
            if cells:
                parts.append(table(_GRADIENT, cells, self._width, self._marks, header=False))
            parts += [*self._more(len(alike), "leaf", "leaves"), *left]
        return Group(*parts, *self._more(len(passes), "place"))

    def _left_as_they_were(self, rows: Sequence[GradientRow]) -> list[Text]:
        """In a word, where not all have room, the leaves whose gradients of other passes a pass left."""
        left = sum(row.outcome == "untouched" for row in rows)
        if not left or len(rows) <= self._limit or not any(row.outcome in _GIVEN for row in rows):
            return []
        text = f"  {counted(left, 'leaf', 'leaves')} of other passes: left as {'they were' if left > 1 else 'it was'}"
        return [Text(text, style="dim")]

    def _pass_head(self, one: BackwardPass) -> Text:
        source = f" from {safe(self._counted(one.roots))}" if one.roots else ""
        where = f"line {one.place.line}" if one.place.line else "at no line of the program's"
        text = Text(f"{where}: {safe(one.op)}{source}")
        if one.executions > 1:
            text.append(f" {self._marks.times}{one.executions:,}", style="magenta")
        if one.error:
            text.append(f"  {self._marks.problem} raised", style="bold red")
        elif one.gradients:
            text.append(f"  {one.received} of {one.received + one.unreached} received a gradient", style="dim")
        if one.create_graph or one.retain_graph:  # (the first keeps the graph as well)
            text.append("  create_graph" if one.create_graph else "  retain_graph", style="yellow")
        return text

    def _counted(self, names: Sequence[str]) -> str:
        """Names with commas, each once: ``loss, <torch.unbind> ×20``."""
        counts = Counter(names)
        return ", ".join(f"{name} {self._marks.times}{many:,}" if many > 1 else name for name, many in counts.items())

    def _gradient(self, row: GradientRow, count: int, is_trained: bool) -> list[Text]:
        """One leaf; one that other passes give a gradient is no failure where this one gives it none."""
        reached = row.outcome in _GIVEN
        amount = f"new {size(row.nbytes)}" if row.nbytes else ""
        several = f" {self._marks.times}{count}" if count > 1 else ""
        if row.received and not reached:  # (a line that serves several models)
            name = Text(f"  {safe(row.name)}{several}", style="bold")
            return [name, Text(safe(row.shape)), Text("received"), Text(row.why)]
        outcome = row.outcome if reached or is_trained else f"{self._marks.problem} {row.outcome}"
        return [
            Text(f"  {safe(row.name)}{several}", style="bold" if reached or is_trained else "bold red"),
            Text(safe(row.shape)),
            Text(outcome, style="green" if reached else "dim" if is_trained else "red"),
            Text(amount, style="dim") if reached else Text(safe(row.why)),
        ]

    def cuts(self, cuts: Sequence[Cut]) -> RenderableType:
        """Where the graph was cut; lines under one mode as one row."""
        columns = [
            Column("line"),
            Column("cut by", minimum=20),
            Column("what", minimum=30),
            Column("source", minimum=12),
        ]
        cells = [self._cut(cut) for cut in cuts if cut.kind not in ("no_grad", "inference_mode")]
        for mode in ("no_grad", "inference_mode"):
            places = [cut for cut in cuts if cut.kind == mode]
            cells += [self._cut(cut) for cut in places] if len(places) < 3 else [self._region(mode, places)]
        return Group(self._table(columns, cells[: self._limit]), *self._more(len(cells), "place"))

    def _cut(self, cut: Cut) -> list[Text]:
        line = f"{cut.place.line}{f' {self._marks.times}{cut.executions:,}' if cut.executions > 1 else ''}"
        by = f"{cut.kind}: {cut.op}" if cut.kind in ("no_grad", "inference_mode") else cut.op
        if cut.inner is not None:
            by += f" in {package_of(cut.inner.file)}"
        is_itself = cut.output in ("", cut.input)
        what = cut.input if is_itself else f"{cut.input} {self._marks.arrow} {cut.output}"
        style = "bold red" if cut.on_path else ""
        return [
            Text(line, style=style),
            Text(safe(by), style=style),
            Text(safe(what)),
            source_text(cut.place.source, self._marks),
        ]

    def _region(self, mode: str, cuts: Sequence[Cut]) -> list[Text]:
        lines = sorted({cut.place.line for cut in cuts})
        is_stretch = len(lines) > 1 and len({cut.place.file for cut in cuts}) == 1
        shown = f"{lines[0]:d}{self._marks.dash}{lines[-1]}" if is_stretch else numbers(lines, at_most=4)
        return [Text(shown), Text(mode), Text(counted(len(lines), "line")), Text("")]

    def writes(self, writes: Sequence[InplaceWrite]) -> RenderableType:
        """Writes in place that other tensors or a backward pass see."""
        columns = [
            Column("line"),
            Column("written by", minimum=12),
            Column("through", minimum=6),
            Column("version"),
            Column("seen by", minimum=8),
            Column("for backward", minimum=16, wraps=True),
        ]
        cells = [self._write(write) for write in writes[: self._limit]]
        return Group(self._table(columns, cells), *self._more(len(writes), "write"))

    def _write(self, write: InplaceWrite) -> list[Text]:
        times = f" {self._marks.times}{write.executions:,}" if write.executions > 1 else ""
        changed = f"{write.version_before}{self._marks.arrow}{write.version_after}" if write.storage else ""
        if write.storage and write.version_before is None:
            changed = "not counted"
        return [
            Text(f"{write.place.line}{times}"),
            Text(safe(write.op)),
            Text(f"{safe(write.name)}{_and_more(write.tensors - 1)}", style="bold"),
            Text(changed, style="yellow"),
            Text(safe(", ".join(write.seen_by[:4]))),
            self._effect(write),
        ]

    def _effect(self, write: InplaceWrite) -> Text:
        saved = f"{safe(write.saved_as)}, line {write.saved_line}"
        line = f"line {write.backward_line}"
        words = {
            "raised": (f"made backward at {line} fail ({saved})", "bold red"),
            "silently_wrong": (
                f"made the gradient of {line} wrong in silence ({saved})",
                "bold red",
            ),
            "would_raise": (f"a backward through it would fail ({saved})", "yellow"),
            "would_be_silently_wrong": (f"a backward through it would be wrong in silence ({saved})", "yellow"),
            "unknown": ("not known: it was saved by a tensor that was not seen", "dim"),
            "none": ("", ""),
        }
        return Text(*words[write.effect])

    def memory(self, memory: MemoryReport) -> RenderableType:
        """What the most expensive lines allocated and saved."""
        columns = [
            Column("line", justify_right=True),
            Column("runs"),
            Column("source", minimum=20),
            Column("allocated", justify_right=True),
            Column("saved", justify_right=True),
            Column("most in use", justify_right=True),
        ]
        lines = sorted(memory.lines, key=lambda line: max(line.saved_bytes, line.allocated_bytes), reverse=True)
        cells = []
        for line in lines[: self._limit]:
            runs = f"{self._marks.times}{line.executions:,}" if line.executions > 1 else ""
            cells.append(
                [
                    Text(str(line.place.line) if line.place.line else "", style="dim"),
                    Text(runs, style="magenta"),
                    source_text(line.place.source or "(outside your code)", self._marks),
                    Text(size(line.allocated_bytes)),
                    Text(size(line.saved_bytes), style="magenta"),
                    Text(size(line.peak_live_bytes), style="dim"),
                ]
            )
        return Group(self._table(columns, cells), *self._more(len(lines), "line"))

    def watches(self, watches: Sequence[WatchRow]) -> RenderableType:
        """Watched expressions and what they gave."""
        columns = [
            Column("line", justify_right=True),
            Column("watch", minimum=8),
            Column("runs"),
            Column("value", minimum=20),
        ]
        return Group(self._table(columns, list(self._watched(watches))), *self._more(len(watches), "value"))

    def _watched(self, watches: Sequence[WatchRow]) -> Iterator[list[Text]]:
        for watch in watches[: self._limit]:
            runs = f"{self._marks.times}{watch.executions:,}" if watch.executions > 1 else ""
            value = (
                Text(f"{self._marks.problem} {safe(watch.text)}", style="red")
                if watch.failed
                else Text(safe(watch.text))
            )
            yield [Text(str(watch.place.line), style="dim"), Text(safe(watch.expression)), Text(runs), value]


def _alike(rows: Sequence[GradientRow]) -> list[tuple[GradientRow, int]]:
    """Rows of which several say the same (a name that held one tensor after the other) once, with their number."""
    found: dict[GradientRow, tuple[int, int]] = {}
    for row in rows:
        count, nbytes = found.get(same := row._replace(nbytes=0), (0, 0))
        found[same] = count + 1, nbytes + row.nbytes
    return [(row._replace(nbytes=nbytes), count) for row, (count, nbytes) in found.items()]


def _and_more(count: int) -> str:
    return f" and {count:,} more" if count else ""
