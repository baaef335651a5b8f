"""The screen of ``gradscope whatif``: a line, a table of its variants, what each would change, all in a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.text import Text

from gradscope.analysis.comparison.comparison_model import Comparison, Group
from gradscope.analysis.whatif.effects import ended_well
from gradscope.analysis.whatif.whatif_model import Trial, WhatIf
from gradscope.analysis.whatif.whatif_rows import comparison_of
from gradscope.report.compare.compare_screen import CompareScreen
from gradscope.report.run.summary import counted
from gradscope.report.screen.text import Symbols, allow_any_text, cut_to, safe, source_text, symbols

WIDEST = 100
"""Columns of a paragraph, however wide the terminal is."""
_INDENT = "  "


def render_whatif(whatif: WhatIf, console: Console) -> None:
    """Print what was tried; the console's width, colours and encoding are respected."""
    allow_any_text(console)
    for part in WhatIfScreen(whatif, console).parts():
        console.print(part, soft_wrap=False, highlight=False, markup=False, emoji=False)


class WhatIfScreen:
    """One result on one console."""

    def __init__(self, whatif: WhatIf, console: Console) -> None:
        self._whatif = whatif
        self._console = console
        self._width = min(console.width, WIDEST)
        self._marks: Symbols = symbols(console)
        self._comparison = comparison_of(whatif)

    def parts(self) -> Iterator[RenderableType]:
        """What is printed, in order."""
        yield from self._header()
        yield Text("")
        table = CompareScreen(self._comparison, self._console.width, self._marks)
        yield from table.rows_of(Group("", tuple(row for group in self._comparison.groups for row in group.rows)))
        yield Text("")
        for trial in self._whatif.trials[1:]:
            yield from self._trial(trial)
        yield from self._notes(self._comparison)
        yield from self._paragraph(Text(""), Text(safe(self._whatif.summary), style="bold"))

    def _header(self) -> Iterator[Text]:
        whatif = self._whatif
        what = f" of {whatif.name}" if whatif.name else ""
        ran = counted(whatif.executions, "time")
        where = f"line {whatif.line}"
        if whatif.file_is_module:
            where += f" of {safe(whatif.file)}"
        yield Text.assemble(("gradscope whatif", "bold"), " ", (safe(whatif.target), "bold"), f"  {where}")
        line = Text.assemble(_INDENT, source_text(whatif.source, self._marks))
        yield cut_to(line, self._console.width, self._marks.dots)
        limits = [f"ran {ran}"]
        if what:
            limits.insert(0, f"variants{what}")
        if whatif.stop_after:
            limits.append(f"each run ends after {counted(whatif.stop_after, 'backward pass', 'backward passes')}")
        if whatif.seed is not None:
            limits.append(f"random numbers start from {whatif.seed}")
        yield Text(safe(_INDENT + ", ".join(limits)), style="dim")

    def _trial(self, trial: Trial) -> Iterator[Text]:
        style = "bold cyan" if ended_well(trial) else "bold red"
        head = Text.assemble((safe(trial.name), style), _INDENT, source_text(trial.code, self._marks))
        yield cut_to(head, self._console.width, self._marks.dots)
        effects = [
            *((self._marks.arrow, "green", one) for one in trial.mends),
            *((self._marks.problem, "red", one) for one in trial.breaks),
            *(("-", "green", f"saves {one}") for one in trial.saves),
            *(("+", "yellow", f"takes {one}") for one in trial.costs),
        ]
        if trial.new_answers:
            effects.append((self._marks.warning, "yellow", f"gradscope run would say: {', '.join(trial.new_answers)}"))
        if trial.gone_answers:
            effects.append(("-", "green", f"gradscope run would no longer say: {', '.join(trial.gone_answers)}"))
        if not effects:
            effects.append((self._marks.note, "dim", "changes nothing that was measured"))
        for mark, colour, text in effects:
            yield from self._paragraph(Text(f"{_INDENT}{mark} ", style=colour), Text(safe(text)))

    def _notes(self, comparison: Comparison) -> Iterator[Text]:
        whatif = self._whatif
        said: list[str] = []
        if whatif.noise:
            said.append(f"two runs of the unchanged program differ: {'; '.join(whatif.noise)}")
        said += whatif.remarks
        legend = [f"{self._marks.differs} differs from the program as it is"]
        legend.append("off: the largest difference, as a part of the largest value")
        if whatif.repeat:
            legend.append(f"times: median of {counted(whatif.repeat, 'run')} without the recorder")
        if comparison.torch:
            legend.append(f"torch {comparison.torch}")
        yield Text("")
        for one in said:
            yield from self._paragraph(Text(f"{self._marks.warning} ", style="yellow"), Text(safe(one)))
        yield from self._paragraph(Text(""), Text(safe("; ".join(legend)), style="dim"))

    def _paragraph(self, mark: Text, text: Text) -> Iterator[Text]:
        """A text beside its mark, over as many lines as it takes."""
        lines: Sequence[Text] = list(text.wrap(self._console, self._width - mark.cell_len))
        for at, line in enumerate(lines):
            line.rstrip()
            yield Text.assemble(mark if not at else " " * mark.cell_len, line)
