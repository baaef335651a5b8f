"""The screen of ``run``: answers first, then the lines, and what they did to memory, graph and gradients."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.text import Text

from gradscope.analysis.lines.highlights import lines_that_matter
from gradscope.analysis.report_model import Cut, InplaceWrite, LineRow, Report
from gradscope.analysis.view import RunView
from gradscope.analysis.wording import BEFORE
from gradscope.report.run.answer_rows import AnswerRows
from gradscope.report.run.line_rows import ShownLines
from gradscope.report.run.module_rows import module_rows, runs_whole_models
from gradscope.report.run.op_rows import ops_table
from gradscope.report.run.sections import Sections
from gradscope.report.run.summary import graph_title, header, summary
from gradscope.report.screen.picture import drawing_console, picture
from gradscope.report.screen.text import Symbols, allow_any_text, safe, symbols

LONG = 28
"""Rows of the line table from which on a run is long: the first screen shows what matters."""
GRAPH_FITS = 16
GRADIENT_ROWS = 100
"""Rows of the table of gradients, which is asked for by name."""
MODULE_ROWS = 12
"""Rows of modules where nobody asked for them."""
SECTION_ROWS = 8
NOTHING_SEEN = "\nNo call of torch was seen in this process; what others do that it starts is not recorded."
EVERYTHING = 1_000_000


def render(report: Report, console: Console, view: RunView | None = None) -> None:
    """Print a report.

    Args:
        report: What the analyses found.
        console: Where to; its width, colours and encoding are respected.
        view: What was asked for.
    """
    allow_any_text(console)
    screen = RunScreen(report, console, view or RunView())
    height = 0
    for part in screen.parts():
        console.print(part, soft_wrap=False, highlight=False, markup=False, emoji=False)
        height += len(console.render_lines(part)) if console.file.isatty() else 0
    if height >= console.height:  # the top, where the answers are, has left the terminal
        for part in screen.in_short():
            console.print(part, soft_wrap=False, highlight=False, markup=False, emoji=False)


def render_svg(report: Report, view: RunView | None = None, width: int = 100) -> str:
    """A picture of the screen, for READMEs."""
    console = drawing_console(width)
    render(report, console, view)
    return picture(console, safe(f"gradscope run {report.run.target}"))


def _matters(write: InplaceWrite) -> bool:
    """Whether the first screen tells of a write: a library's own, once a pass met it."""
    return write.effect not in ("none", "unknown") and not (write.by_library and not write.backward_line)


class RunScreen:
    """One report on one console."""

    def __init__(self, report: Report, console: Console, view: RunView) -> None:
        self._report = report
        self._view = view
        self._width = console.width
        self._marks: Symbols = symbols(console)
        self._is_long = len(report.lines) > LONG and not view.all and view.lines is None
        self._answers = AnswerRows(report, console, self._marks)
        limit = EVERYTHING if view.all else 4 if self._is_long else SECTION_ROWS
        self._sections = Sections(self._width, self._marks, limit)
        self._limit = limit

    def parts(self) -> Iterator[RenderableType]:
        """What is printed, in order."""
        report, view = self._report, self._view
        yield header(report)
        found = self._answers.all() if view.all or view.all_answers else self._answers.first()
        if found is not None:
            yield found
        if view.by_module and not view.quiet:
            yield from self._modules()
        elif not view.quiet:
            yield from self._lines()
            if runs_whole_models(report.modules) and view.lines is None:
                yield from self._modules()
            yield from self._below()
        if view.gradients:
            yield from self._gradients()
        yield Text("")
        yield summary(report, self._marks, with_memory=view.memory is not False)
        if self._is_long and not view.quiet:
            yield self._pointer()

    def in_short(self) -> Iterator[RenderableType]:
        """The worst answers once more, a line each; nothing where there are only notes."""
        found = self._answers.in_short()
        if found is not None:
            yield self._title("Lines to change, as said above")
            yield found

    def _modules(self) -> Iterator[RenderableType]:
        rows, view = self._report.modules, self._view
        if not rows:
            yield Text("\nNo call of a module was seen: what ran stands in no forward of an nn.Module.")
            return
        yield self._title("Modules")
        limit = EVERYTHING if view.by_module or view.all else MODULE_ROWS
        yield from module_rows(rows, self._width, self._marks, limit)
        if view.by_module and (view.graph or view.all):
            yield from self._graphs()

    def _gradients(self) -> Iterator[RenderableType]:
        from gradscope.report.run.gradient_rows import gradient_rows, looked_at

        rows, passes = self._report.gradient_norms, self._report.summary.backwards
        yield self._title(f"Sizes of gradients ({looked_at(rows, passes)})")
        yield from gradient_rows(rows, self._width, self._marks, EVERYTHING if self._view.all else GRADIENT_ROWS)

    def _title(self, title: str) -> Text:
        return Text(f"\n{title}", style="bold underline")

    def _rows(self) -> tuple[LineRow, ...]:
        """Rows of the line table."""
        rows = lines_that_matter(self._report) if self._is_long else self._report.lines
        return tuple(row for row in rows if row.kind != "call" or row.notes or self._view.all)

    def _lines(self) -> Iterator[RenderableType]:
        rows = self._rows()
        if not rows:
            yield Text(self._why_no_line())
            return
        yield self._title(
            f"Lines that matter ({len(rows)} of {len(self._report.lines)} rows)" if self._is_long else "Lines"
        )
        table = ShownLines(rows, self._width, self._marks, self._view.memory)
        yield table.render()
        yield Text(self._legend(table.usual, rows), style="dim")

    def _why_no_line(self) -> str:
        lines = self._view.lines
        if not self._report.summary.ops:
            return NOTHING_SEEN
        if lines is None:
            return ""
        which = f"line {lines[0]}" if lines[0] == lines[1] else f"lines {lines[0]} to {lines[1]}"
        return f"\nNo call of torch was seen on {which}, but on others: leave out --line to see them."

    def _legend(self, usual: tuple[str, str], rows: tuple[LineRow, ...]) -> str:
        words = [f"tensors are {safe(usual[0])} on {safe(usual[1])} unless said" if usual[0] else ""]
        which = "the runs before --max-ops was reached" if self._report.summary.left_out else "all runs"
        summed = f" (of {which})" if any(row.executions > 1 for row in rows) else ""
        if self._view.memory is not False:
            words.append(f"new: bytes allocated, saved: bytes kept for backward{summed}")
        if alias := next((row for row in rows if row.alias_of), None):
            base = safe(alias.alias_of)
            other = f"what {base.removesuffix(BEFORE)} was{BEFORE}" if base.endswith(BEFORE) else base
            words.append(f"{alias.storage} = {base}: the same memory as {other}")
        return "; ".join(filter(None, words))

    def _below(self) -> Iterator[RenderableType]:
        report, view, sections = self._report, self._view, self._sections
        if report.watches:
            yield self._title("Watched")
            yield sections.watches(report.watches)
        if report.ops:
            yield self._title("Ops")
            yield ops_table(report.ops, self._width, self._marks)
        if view.lines is None:
            yield from self._whole_run()
        if view.graph or view.lines is None:
            yield from self._graphs()
        if view.memory or (view.memory is None and view.all):
            yield self._title("Memory by line")
            yield sections.memory(report.memory)

    def _whole_run(self) -> Iterator[RenderableType]:
        report, view, sections = self._report, self._view, self._sections
        if report.alias_groups and not self._is_long:
            yield self._title("Shared memory")
            yield sections.aliases(report.alias_groups)
        if report.backwards and not self._is_long:
            yield self._title("Gradients")
            yield sections.gradients(report.backwards)
        cuts = self._cuts_not_shown()
        if cuts:
            yield self._title("Other cuts of the graph")
            yield sections.cuts(cuts)
        writes = [write for write in report.inplace_writes if view.all or _matters(write)]
        if writes:
            yield self._title("Writes in place")
            yield sections.writes(writes)

    def _cuts_not_shown(self) -> list[Cut]:
        """Cuts that no row of the line table reports, without those that a library made for itself."""
        marked = {(row.file, row.line) for row in self._rows() if row.kind == "cut"}
        concern = [cut for cut in self._report.cuts if self._limit == EVERYTHING or not cut.by_library]
        places = ((cut, (cut.place.file, cut.place.line)) for cut in concern if cut.kind != "export")
        return [cut for cut, place in places if place not in marked]

    def _graphs(self) -> Iterator[RenderableType]:
        wanted = self._view.graph
        left_out = []
        for graph in self._report.graphs:
            fits = len(graph.rows) <= GRAPH_FITS and not self._is_long and len(self._report.graphs) <= 2
            if wanted is False or (wanted is None and not fits and not self._view.all):
                left_out.append(graph)
                continue
            yield self._title(graph_title(graph))
            yield Sections(self._width, self._marks, EVERYTHING).graph(graph)

        if left_out and wanted is None:
            largest = max(left_out, key=lambda graph: graph.nodes)
            others = f" and {len(left_out) - 1} smaller" if len(left_out) > 1 else ""
            yield Text(f"\n{graph_title(largest)}{others} (--graph)", style="dim")

    def _pointer(self) -> Text:
        return Text(
            "To see the rest: --all, --line N-M, --graph, --gradients, --memory, --ops; -o FILE keeps it", style="dim"
        )
