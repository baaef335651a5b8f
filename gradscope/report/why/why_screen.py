"""The screen of ``gradscope why``: the answer, the way, what to change; a plain case fits 24 lines of 80 columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from gradscope.analysis.report_model import Cause
from gradscope.analysis.sizes import size
from gradscope.analysis.why.why_model import SeenGradient, WayStep, WhyAnswer
from gradscope.analysis.worded_lines import short_place
from gradscope.report.screen.layout import GAP, Column, fit, narrowed
from gradscope.report.screen.text import Symbols, allow_any_text, cut_to, safe, source_text, symbols

STEPS = 8
"""Lines of a way; of a longer one the middle is left out."""
WIDEST = 100
"""Columns of a paragraph, however wide the terminal is."""
_ADVICE_LINES = 4
_CHANGES = 4
_LEAST_SOURCE = 44
"""Columns for the source of a line to change beside its place; with less room it stands below."""
_FURTHER_LINES = 2
_STYLES = {"problem": "bold red", "warning": "bold yellow", "note": "cyan"}
_COLUMNS = (
    Column("line", minimum=24, keeps_end=True),
    Column("", minimum=22),
    Column("gives", minimum=8, keeps_end=True),
    Column("grad_fn"),
    Column("", minimum=15),
)
_LONGEST_NAME = 20
"""Columns of a tensor's name beside its line; the whole name stands above."""


def render_why(answer: WhyAnswer, console: Console) -> None:
    """Print an answer."""
    allow_any_text(console)
    for line in WhyScreen(answer, console).lines():
        console.print(line, soft_wrap=False, highlight=False, markup=False, emoji=False)


class WhyScreen:
    """One answer on one console."""

    def __init__(self, answer: WhyAnswer, console: Console) -> None:
        self._answer = answer
        self._console = console
        self._marks: Symbols = symbols(console)
        self._width = min(console.width, WIDEST)
        files = {step.place.file for step in answer.way if step.place.file}
        self._names_files = len(files | {cause.file for cause in answer.changes}) > 1

    def lines(self) -> Iterator[object]:
        """What is printed, in order."""
        answer = self._answer
        yield from self._sentence()
        if answer.way:
            yield Text("")
            head = (
                f"The way from {answer.root} to {answer.way[-1].name}" if answer.root else "Where it was made and used"
            )
            yield cut_to(Text(safe(head), style="bold"), self._console.width, self._marks.dots)
            yield from self._table([self._step(step) for step in self._steps()])
        yield from self._changes()
        yield from self._further()
        yield from self._remarks()

    def _sentence(self) -> Iterator[Text]:
        answer = self._answer
        mark = Text(
            self._mark() + " ", style=_STYLES.get(answer.severity or "", "bold green" if answer.found else "dim")
        )
        text = Text(safe(answer.text))
        for cause in answer.changes[:1]:
            text.highlight_regex(re.compile(rf"\b[Ll]ine {re.escape(str(cause.line))}\b"), "bold")
        if answer.code:
            text.append(f" [{answer.code}]", style="dim")
        yield from self._hanging(mark, text)

    def _mark(self) -> str:
        marks = {"problem": self._marks.problem, "warning": self._marks.warning, "note": self._marks.note}
        return marks.get(self._answer.severity or "", self._marks.arrow if self._answer.found else "?")

    def _hanging(self, mark: Text, text: Text, most: int = 0) -> Iterator[Text]:
        """A paragraph beside its mark."""
        lines = list(text.wrap(self._console, self._width - mark.cell_len))
        if most and len(lines) > most:
            lines = lines[:most]
            lines[-1] = cut_to(
                Text.assemble(lines[-1], " " * self._width), self._width - mark.cell_len, self._marks.dots
            )
        for at, line in enumerate(lines):
            line.rstrip()
            yield Text.assemble(mark if not at else " " * mark.cell_len, line)

    def _table(self, rows: Sequence[Sequence[Text]]) -> Iterator[Text]:
        """Rows fitted to the width, with nothing behind their last word."""
        widths = fit(_COLUMNS, rows, self._console.width)
        titles = [Text(column.title, "dim") for column in _COLUMNS]
        for row in (titles, *rows):
            line = Text(no_wrap=True)
            for column, cell, width in zip(_COLUMNS, row, widths, strict=True):
                if width:
                    shown = narrowed(column, cell, width, self._marks)
                    line.append_text(shown).append(" " * (width - shown.cell_len + GAP))
            line.rstrip()
            yield line

    def _steps(self) -> Sequence[WayStep]:
        """The steps that are shown: the first, those around cuts and gaps, and the last."""
        steps = self._answer.way
        if len(steps) <= STEPS:
            return steps
        wanted = {0, 1, len(steps) - 1, len(steps) - 2}
        breaks = [at for at, step in enumerate(steps) if step.kind in ("cut", "gap")]
        wanted |= {at + beside for at in breaks[-1:] for beside in (-1, 0, 1)}
        for at in range(len(steps)):
            if len(wanted) >= STEPS - 1:
                break
            wanted.add(at)
        shown: list[WayStep] = []
        left = 0
        for at, step in enumerate(steps):
            if at in wanted:
                if left:
                    shown.append(_left_out(steps[at - left : at]))
                shown.append(step)
                left = 0
            else:
                left += 1
        return shown

    def _step(self, step: WayStep) -> list[Text]:
        if step.kind == "gap":
            if step.calls:
                return [Text(self._marks.dots, "dim"), Text(f"{step.calls} more calls", "dim"), Text(), Text(), Text()]
            gap = Text("no call seen between", "bold red")
            return [Text(self._marks.dots, "dim"), gap, Text(), Text(), Text()]
        place = step.place
        line = short_place(place.file, place.line) if self._names_files and place.file else str(place.line or "")
        source = source_text(place.source, self._marks) if place.line else Text("not seen", "dim")
        is_target = step.kind == "tensor"
        name = Text(safe(step.name) if step.kind != "pass" else "", "bold green" if is_target else "bold")
        name = cut_to(name, _LONGEST_NAME, self._marks.dots, keep_end=True)
        node = Text("leaf", "dim") if step.is_leaf else Text(safe(step.grad_fn), "cyan")
        return [Text(line), source, name, node, self._remark(step)]

    def _remark(self, step: WayStep) -> Text:
        parts = []
        if step.cut:
            parts.append(Text(f"{self._marks.cut} cut", "bold red"))
        if step.gradient is not None:
            parts.append(Text(f"grad {_gradient(step.gradient)}", "dim"))
        if step.saved_bytes:
            parts.append(Text(f"saves {size(step.saved_bytes)}", "magenta"))
        return Text(", ").join(parts)

    def _changes(self) -> Iterator[object]:
        answer = self._answer
        if not answer.changes and not answer.advice:
            return
        yield Text("")
        yield Text("What to change" if answer.severity else "Where", style="bold")
        for cause in answer.changes[:_CHANGES]:
            yield from self._change(cause)
        left = len(answer.changes) - _CHANGES
        if left > 0:
            yield Text(f"  {self._marks.dots} {left} more lines (-f json)", style="dim")
        if answer.advice:
            yield from self._hanging(Text("  "), Text(safe(answer.advice)), _ADVICE_LINES)
        if answer.code:
            yield Text(f"  gradscope explain {answer.code}", style="dim")

    def _change(self, cause: Cause) -> Iterator[Text]:
        """The place, whole, and the source beside it, or below it where there is no room for much of it."""
        where = Text(safe(f"{cause.file}:{cause.line:d}" if self._names_files else f"line {cause.line}"), "bold")
        source, width = source_text(cause.source, self._marks), self._console.width
        beside = Text.assemble("  ", where, "  ", source)
        if beside.cell_len <= width or where.cell_len + _LEAST_SOURCE <= width:
            yield cut_to(beside, width, self._marks.dots)
            return
        yield Text.assemble("  ", where, overflow="fold")
        yield cut_to(Text.assemble("    ", source), width, self._marks.dots)

    def _further(self) -> Iterator[Text]:
        for one in self._answer.further:
            yield Text("")
            mark = {"problem": self._marks.problem, "warning": self._marks.warning}.get(one.severity, self._marks.note)
            text = Text.assemble(f"Also: {safe(one.text)}", (f" [{one.code}]", "dim"))
            yield from self._hanging(Text(f"{mark} ", _STYLES[one.severity]), text, _FURTHER_LINES)

    def _remarks(self) -> Iterator[Text]:
        answer = self._answer
        said = list(answer.remarks)
        if answer.looked > 1:
            said.append(f"the expression was evaluated {answer.looked:,} times")
        if answer.runs > 1:
            said.append("the program was run again, looking at every value (--no-rerun: once only)")
        if said:
            yield Text("")
        for one in said:
            yield from self._hanging(Text(f"{self._marks.dots} ", "dim"), Text(safe(one), "dim"))


def _left_out(steps: Sequence[WayStep]) -> WayStep:
    return steps[0]._replace(kind="gap", calls=sum(step.calls for step in steps))


def _gradient(seen: SeenGradient) -> str:
    """A gradient in a few words: its norm, or from where to where it went."""
    if seen.is_none:
        return "None"
    if seen.low is None or seen.high is None:
        return "there"
    if seen.low != seen.low:
        return "NaN"
    if seen.norm is not None:
        return f"norm {seen.norm:.3g}"
    return f"{seen.low:.2g} to {seen.high:.2g}" if seen.low != seen.high else f"{seen.low:.2g}"
