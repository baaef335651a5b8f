"""The screen of ``gradscope fix``: each edit as a diff, and what the run with it shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.text import Text

from gradscope.analysis.sizes import size
from gradscope.experiments.fix.fix_model import Fix, FixReport, Measure, Proof
from gradscope.report.screen.text import Symbols, allow_any_text, safe, symbols

WIDEST = 100
"""Columns of a paragraph, however wide the terminal is."""
_NAMES = 3
"""Leaves that are named; of more the number is said."""
_LABEL = 11
"""Columns of what a row of a proof is about."""


def render_fixes(report: FixReport, console: Console, *, everything: bool = False, writes: bool = False) -> None:
    """Print the edits that are offered; with ``everything`` also those that do not hold."""
    allow_any_text(console)
    screen = _FixScreen(report, console, everything, writes)
    for line in screen.lines():
        console.print(line, soft_wrap=False, highlight=False, markup=False, emoji=False)


class _FixScreen:
    """One report on one console."""

    def __init__(self, report: FixReport, console: Console, everything: bool, writes: bool) -> None:
        self._report = report
        self._console = console
        self._everything = everything
        self._writes = writes
        self._marks: Symbols = symbols(console)
        self._width = min(console.width, WIDEST)

    def lines(self) -> Iterator[object]:
        """What is printed, in order."""
        report = self._report
        yield self._hanging("", Text(safe(self._summary()), style="bold"), "")
        shown = report.fixes if self._everything else report.offered
        for number, fix in enumerate(shown, 1):
            yield Text("")
            yield from self._fix(number, fix)
        if report.together is not None:
            yield Text("")
            yield Text("All of these together", style="bold")
            yield from self._proof(report.together)
        yield Text("")
        yield from self._end()

    def _summary(self) -> str:
        report = self._report
        if not report.answers:
            return f"{report.target}: no problem and no warning, so there is nothing to edit"
        count = report.answers
        answers = f"{count} problems and warnings" if count > 1 else "1 problem or warning"
        mended = count - len(report.unmended)
        if not report.offered:
            return f"{report.target}: {answers}, but no edit that holds"
        edits = len(report.offered)
        number, each = (f"{edits} edits", "each") if edits > 1 else ("1 edit", "it")
        return f"{report.target}: {number} for {mended} of {answers}, proved by running the program with {each}"

    def _fix(self, number: int, fix: Fix) -> Iterator[object]:
        style = "bold green" if fix.offered else "bold red"
        mark = f"{number}. " if fix.offered else f"{self._marks.problem} "
        yield self._hanging(
            mark, Text(safe(f"{fix.title}{'' if fix.offered else ' (does not hold)'}"), style="bold"), style
        )
        for answer in fix.answers:
            text = Text(safe(answer.text))
            text.append(f" [{answer.code}]", style="dim")
            yield self._hanging("   ", text, "")
        yield Text("")
        for line in fix.diff.splitlines():
            yield self._hanging("   ", self._diff_line(line), "")
        yield Text("")
        yield from self._proof(fix.proof)

    def _diff_line(self, line: str) -> Text:
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
        if line.startswith(("+++", "---")):
            style = "bold"
        return Text(safe(line.rstrip("\r")), style=style)

    def _proof(self, proof: Proof) -> Iterator[object]:
        if proof.holds:
            gone = ", ".join(f"[{code}]" for code in proof.gone)
            said = f"{gone} {'are' if len(proof.gone) > 1 else 'is'} gone, " if gone else ""
            yield self._row("run with it", f"{said}{'it goes on' if proof.new else 'nothing new is found'}")
            for text in proof.new:
                yield self._row("further on", text)
        for reason in proof.reasons:
            yield self._row("fails", reason)
        if proof.ended_before or proof.ended:
            yield self._row("end", f"{self._said(proof.ended_before)} {self._marks.arrow} {self._said(proof.ended)}")
        yield from self._numbers(proof)

    def _said(self, ended: str) -> str:
        if not ended:
            return "comes to its end"
        return ended if len(ended) < 60 else f"{ended[:57]}{self._marks.dots}"

    def _numbers(self, proof: Proof) -> Iterator[object]:
        losses = [
            f"{name} {self._measured(one, _loss)}"
            for name, one in (("first", proof.first_loss), ("last", proof.last_loss))
            if one.before is not None or one.after is not None
        ]
        if losses:
            yield self._row("loss", ", ".join(losses))
        found = proof.gradients
        parts = [f"{found.same} the same"] if found.same else []
        if found.other:
            off = f" (norms by up to {_percent(found.furthest)})" if found.furthest else ""
            parts.append(f"changed for {self._named(found.other)}{off}")
        parts += [f"new for {self._named(found.gained)}"] if found.gained else []
        parts += [f"none any more for {self._named(found.lost)}"] if found.lost else []
        if parts:
            yield self._row("gradients", f"after the first pass: {'; '.join(parts)}")
        saved = self._measured(proof.saved_bytes, lambda number: size(int(number)))
        peak = self._measured(proof.peak_bytes, lambda number: size(int(number)))
        yield self._row("memory", f"saved for backward {saved}, peak {peak}")
        yield self._row("time", f"{self._measured(proof.wall_ns, _seconds)}, both under the recorder")

    def _measured(self, one: Measure, shown: Callable[[float], str]) -> str:
        before, after = (self._marks.dash if value is None else shown(value) for value in one)
        if one.before == one.after:
            return f"{before} (the same)"
        return f"{before} {self._marks.arrow} {after}"

    def _named(self, names: tuple[str, ...]) -> str:
        if len(names) <= _NAMES:
            return ", ".join(names)
        return f"{', '.join(names[: _NAMES - 1])} and {len(names) - _NAMES + 1} more"

    def _row(self, label: str, text: str) -> object:
        return self._hanging(f"   {label.ljust(_LABEL)} ", Text(safe(text)), "dim")

    def _hanging(self, mark: str, text: Text, style: str) -> object:
        lines = text.wrap(self._console, max(20, self._width - len(mark)))
        joined = Text(mark, style=style)
        for number, line in enumerate(lines):
            if number:
                joined.append("\n" + " " * len(mark))
            line.rstrip()
            joined.append_text(line)
        return joined

    def _end(self) -> Iterator[object]:
        report = self._report
        failed = sum(not fix.offered for fix in report.fixes)
        if failed and not self._everything:
            said = "1 more was run and does" if failed == 1 else f"{failed} more were run and do"
            yield self._hanging("", Text(f"{said} not hold (--all)", style="dim"), "")
        for remark in report.remarks:
            yield self._hanging("", Text(safe(f"Note: {remark}")), "")
        if report.offered and not self._writes:
            said = "Nothing was changed: --write applies what is offered, -f diff prints it for git apply."
            yield self._hanging("", Text(said, style="dim"), "")


def _loss(number: float) -> str:
    return f"{number:.6g}" if math.isfinite(number) else str(number)


def _percent(part: float) -> str:
    percent = part * 100
    return f"{percent:.0f}%" if percent >= 10 else f"{percent:.2g}%"


def _seconds(number: float) -> str:
    return f"{number / 1e9:.2f} s"
