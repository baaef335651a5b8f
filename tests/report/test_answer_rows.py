"""The answers on the screen: ten lines at most, the most harmful first, one a line to change."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer, SuppressedAnswer
from gradscope.analysis.view import RunView
from gradscope.report.run.run_screen import render
from tests.analysis.answering import answer
from tests.analysis.building import Builder

ADVICE = " ".join(["Change it."] * 9)
MANY = [
    answer(line=number, cause=number, text=f"Line {number}: {'what was seen there ' * 8}.", advice=ADVICE)
    for number in range(1, 9)
]


def shown(answers: list[Answer], width: int = 80, *, every: bool = False, **parts: object) -> list[str]:
    """The lines of the screen that are about answers."""
    builder = Builder()
    report = build(builder.recording)._replace(answers=tuple(answers), **parts)
    console = Console(width=width, file=StringIO(), force_terminal=False)
    render(report, console, RunView(quiet=True, all_answers=every))
    return console.file.getvalue().split("\n\n")[0].split("\n")[1:]  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("width", [80, 120, 200])
def test_there_are_ten_lines_at_most_and_the_rest_is_counted(width: int):
    lines = shown([*MANY, answer("frozen", severity="note")], width)
    assert len(lines) <= 10
    problems = sum("✗ problem" in line for line in lines)
    assert 2 <= problems < len(MANY)
    assert lines[-1].strip() == f"…         {len(MANY) - problems} more problems, 1 more note (--all-answers)"


def test_the_first_says_what_to_do_before_others_are_shown():
    short = [answer("frozen", line=number, text=f"Line {number}.", advice=ADVICE) for number in range(20, 30)]
    text = " ".join(" ".join(shown([MANY[0], *short])).split())
    assert text.count("Change it.") == 9 and text.index("Change it.") < text.index("Line 20. … [frozen]")
    assert "Line 23. … [frozen] … 6 more problems (--all-answers)" in text


def test_what_lacks_what_to_do_about_it_says_so():
    brief = answer("frozen", text="Short.", advice=ADVICE * 4)
    lines = shown([MANY[0], brief])
    assert "Short. … [frozen]" in " ".join(lines)
    assert lines[-1].split() == ["…", "what", "to", "do", "about", "these", "(--all-answers)"]


def test_what_fits_is_shown_in_full():
    lines = shown(MANY[:1])
    assert "--all-answers" not in " ".join(lines)
    assert " ".join(" ".join(lines).split()).count("Change it.") == 9


def test_one_that_is_too_long_is_cut_and_keeps_its_place():
    lines = shown([answer(text="word " * 400), answer("frozen", severity="note")])
    assert len(lines) == 10
    assert lines[-2].rstrip().endswith("…")
    assert "1 more note (--all-answers)" in lines[-1]


def test_answers_of_one_cause_are_one():
    alike = [answer("leaf-unreached", 9, 5), answer("leaf-unreached", 10, 5), answer("frozen", 11, 5, severity="note")]
    lines = shown([answer(cause=5), *alike])
    assert lines[0].rstrip() == "✗ problem grad-none-unreached at line 9. [grad-none-unreached] line 5 also:"
    assert lines[1].strip() == "leaf-unreached ×2, frozen"
    assert "2 more problems, 1 more note (--all-answers)" in lines[2]
    everything = shown([answer(cause=5), *alike], every=True)
    assert sum("[leaf-unreached]" in line for line in everything) == 2 and len(everything) == 4


def test_what_is_held_back_is_counted_also_where_nothing_is_left():
    rows = (SuppressedAnswer("comment", answer()), SuppressedAnswer("baseline", answer()))
    said = ["… not shown: 1 by # gradscope: ignore, 1 of the baseline", "! a remark"]
    assert [line.rstrip() for line in shown([], suppressed=rows, remarks=("a remark",))] == said


def test_the_line_to_change_stands_out():
    report = build(Builder().recording)._replace(answers=(answer(cause=5, text="Line 9: cut at line 5, not line 55"),))
    console = Console(width=80, file=StringIO(), force_terminal=True, color_system="standard", legacy_windows=False)
    render(report, console, RunView(quiet=True))
    assert "cut at \x1b[1mline 5\x1b[0m, not line 55" in console.file.getvalue()  # type: ignore[attr-defined]


class Terminal(StringIO):
    """What a program takes for a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("rows", "times"), [(12, 2), (400, 1)])
def test_a_screen_that_is_higher_than_the_terminal_ends_with_the_lines_to_change(rows: int, times: int):
    answers = (*MANY, answer("frozen", severity="note", text="Only a note."))
    console = Console(width=80, height=rows, file=Terminal(), force_terminal=True, no_color=True, color_system=None)
    render(build(Builder().recording)._replace(answers=answers), console, RunView())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("what was seen there") > 1
    assert text.count("Line 1: what") == 1 and text.count(":1 what was seen there") == times - 1
    assert ("\nLines to change, as said above\n" in text) == (times == 2)
    if times == 2:
        below = text.partition("as said above\n")[2].splitlines()
        assert len(below) == 5 and all(len(line) <= 80 for line in below) and below[-1].split() == ["…", "4", "more"]
        assert "Only a note." not in "".join(below)
