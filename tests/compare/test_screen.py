"""What a comparison looks like: at two widths, without colour, with hostile text, and as data."""

import csv
import io
import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from rich.console import Console
from syrupy.assertion import SnapshotAssertion

from gradscope.analysis.comparison.comparison_model import Cell, Comparison, Group, Variant
from gradscope.experiments.compare.comparing import compare
from gradscope.report.compare.compare_formats import as_csv, as_json, as_jsonl, as_markdown, as_svg
from gradscope.report.compare.compare_screen import render_comparison, render_printed
from tests.versions import shows_words_of_torch


@pytest.fixture(scope="module")
def nine() -> Comparison:
    return replace(compare(), torch="(any)")


def screen(comparison: Comparison, width: int, **options: object) -> str:
    stream = io.StringIO()
    render_comparison(comparison, Console(file=stream, width=width, **options))  # type: ignore[arg-type]
    return stream.getvalue()


@shows_words_of_torch
@pytest.mark.parametrize("width", [80, 120])
def test_nine_variants(nine: Comparison, width: int, snapshot: SnapshotAssertion) -> None:
    text = screen(nine, width)
    assert max(map(len, text.split("\n"))) <= width
    assert "\n".join(line.rstrip() for line in text.split("\n")) == snapshot


def test_every_short_value_is_on_every_screen(nine: Comparison) -> None:
    for width in (60, 80, 120, 200, 400):
        text = screen(nine, width)
        for group in nine.groups:
            for row in group.rows:
                for cell in row.cells:
                    if isinstance(cell.value, str) and len(cell.value) < 8:
                        assert cell.value in text


def test_the_difference_from_the_baseline_needs_no_colour() -> None:
    comparison = compare("stop_gradient", only=["nothing", "detach()"], baseline="nothing")
    (line,) = [line for line in screen(comparison, 80).split("\n") if line.startswith("result requires_grad")]
    assert line.split() == ["result", "requires_grad", "True", "≠", "False"]
    assert "nothing (baseline)" in " ".join(screen(comparison, 120).split())
    assert "\x1b[" in screen(comparison, 80, force_terminal=True, color_system="standard")


HOSTILE = "[red]x[/red]\x1b[31m\x07|</td><script>"


def hostile() -> Comparison:
    variants = tuple(
        Variant(f"{HOSTILE}{at}", HOSTILE, "crash", 1, HOSTILE, 0, f"{HOSTILE}\nlast\n") for at in range(2)
    )
    cells = (Cell(HOSTILE, "error", True), Cell(HOSTILE * 9, "value", False))
    from gradscope.analysis.comparison.side_by_side import row_of

    rows = (row_of("watch", HOSTILE, HOSTILE, cells),)
    return Comparison(HOSTILE, HOSTILE, variants, 0, (Group(HOSTILE, rows),), 1, 0, True, "2", "3")


def test_text_of_a_program_is_shown_and_never_obeyed() -> None:
    comparison = hostile()
    stream = io.StringIO()
    console = Console(file=stream, width=200)
    render_comparison(comparison, console)
    render_printed(comparison, console)
    text = stream.getvalue()
    assert "\x1b" not in text and "\x07" not in text
    assert "[red]x[/red]\\x1b[31m\\x07" in text and "last" in text
    assert "<script>" not in as_markdown(comparison) and "\x1b" not in as_markdown(comparison)
    ElementTree.fromstring(as_svg(comparison))
    assert "<script>" not in as_svg(comparison)


def test_data_says_what_the_model_says(nine: Comparison) -> None:
    data = json.loads(as_json(nine))
    assert (data["format"], data["version"], data["outcome"]) == ("gradscope-comparison", 1, "different")
    rows = [row for group in data["groups"] for row in group["rows"]]
    lines = [json.loads(line) for line in as_jsonl(nine).splitlines()]
    assert lines[0]["variants"] == [variant.name for variant in nine.variants]
    assert [line["label"] for line in lines[1:]] == [row["label"] for row in rows]
    table = list(csv.DictReader(io.StringIO(as_csv(nine))))
    assert [line["fact"] for line in table] == [row["fact"] for row in rows]
    assert {line[".data"] for line in table if line["fact"] == "memory"} == {"source's"}


def test_nothing_differs() -> None:
    none = Comparison("a b", "", (), None, (), 3, 3, False, "2", "3")
    assert "Nothing differs." in screen(none, 80)
    assert "Nothing differs." in as_markdown(none)
