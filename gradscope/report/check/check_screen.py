"""What ``gradscope check`` found, on a terminal: a line a target, every failure with the value of each part."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from gradscope.analysis.check_results import CheckReport, Expectation, FailingAnswer, Part, TargetCheck
from gradscope.report.check.check_words import counted, place, sentence, summary, target_sentence
from gradscope.report.screen.text import allow_any_text, safe, safe_line

_LAST_LINES = 20
"""Lines of a failed target's output that are shown."""
_WIDEST_EXPRESSION = 40


def render_check(report: CheckReport, console: Console, *, printed: bool = False) -> None:
    """Write everything.

    Args:
        report: What was found.
        console: Where to.
        printed: All that the targets printed; else the end of what a target printed that failed itself.
    """
    allow_any_text(console)
    for target in report.targets:
        _line(target, console)
        _failures(target, console)
        _output(target, console, printed)
    _write(Text(summary(report), style="bold green" if report.passed else "bold red"), console)


def _line(target: TargetCheck, console: Console) -> None:
    mark = Text("ok     ", style="green") if target.passed else Text("FAILED ", style="bold red")
    _write(Text.assemble(mark, safe(target.file), "  ", (safe(target_sentence(target)), "dim")), console)


def _failures(target: TargetCheck, console: Console) -> None:
    unreached = [item for item in target.failed if item.verdict == "never ran"] if target.failure else []
    shown = [item for item in target.failed if item not in unreached]
    for item in shown:
        console.print()
        _failure(target, item, console)
    for answer in target.answers:
        console.print()
        _answer(answer, console)
    if shown or target.answers:
        console.print()
    if unreached:
        lines = ", ".join(f"line {item.line}" if item.line else "-e" for item in unreached)
        _write(Text(f"    {counted(len(unreached), 'expectation')} never ran: {lines}", style="red"), console)


def _failure(target: TargetCheck, item: Expectation, console: Console) -> None:
    _write(Text.assemble((safe(f"  {place(target, item)}"), "bold"), "  ", (safe(sentence(item)), "red")), console)
    _write(Text(f"    {safe(item.expression)}"), console)
    if item.first_failure is not None:
        _parts(item.first_failure.parts, console)


def _answer(answer: FailingAnswer, console: Console) -> None:
    where = f"{answer.file}:{answer.line}" if answer.line else answer.file
    _write(Text.assemble((safe(f"  {where}"), "bold"), "  ", (f"{answer.severity} [{answer.code}]", "red")), console)
    console.print(Padding(Text(safe(answer.text)), (0, 0, 0, 4)), highlight=False)


def _parts(parts: tuple[Part, ...], console: Console) -> None:
    """Each part beside its value, or above it where it is long."""
    width = max((len(part.expression) for part in parts if len(part.expression) <= _WIDEST_EXPRESSION), default=0)
    for part in parts:
        expression = Text(f"      {safe(part.expression)}", style="dim")
        if len(part.expression) > width:
            _write(expression, console)
            expression = Text("      ")
        expression.pad_right(max(0, width + 8 - len(expression)))
        _write(Text.assemble(expression, (safe(part.value), "yellow")), console)


def _output(target: TargetCheck, console: Console, printed: bool) -> None:
    lines = target.output.rstrip("\n").split("\n") if target.output.strip() else []
    shown = lines if printed else lines[-_LAST_LINES:] if target.failure else []
    if len(shown) < len(lines) and shown:
        _write(Text(f"    | … {counted(len(lines) - len(shown), 'line')} before (--printed shows all)", "dim"), console)
    for line in shown:
        _write(Text(f"    | {safe_line(line)}", style="dim"), console)


def _write(text: Text, console: Console) -> None:
    console.print(text, soft_wrap=True, highlight=False)
