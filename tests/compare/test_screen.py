"""What a comparison looks like: at two widths, without colour, with hostile text, and as data."""

import csv
import io
import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from jsonschema import Draft202012Validator
from rich.console import Console
from syrupy.assertion import SnapshotAssertion

from gradscope.analysis.comparison.comparison_model import Cell, Comparison, Group, Variant
from gradscope.analysis.comparison.side_by_side import row_of
from gradscope.errors import UsageError
from gradscope.experiments.compare.comparing import compare
from gradscope.report.compare.compare_formats import as_csv, as_json, as_jsonl, as_markdown, as_svg
from gradscope.report.compare.compare_schema import compare_schema
from gradscope.report.compare.compare_screen import render_comparison, render_printed
from tests.versions import shows_words_of_torch


@pytest.fixture(scope="module")
def nine() -> Comparison:
    return replace(compare(), torch="(any)")


def screen(comparison: Comparison, width: int, **options: object) -> str:
    stream = io.StringIO()
    render_comparison(comparison, Console(file=stream, width=width, **options))  # type: ignore[arg-type]
    return stream.getvalue()


def in_full(comparison: Comparison) -> Comparison:
    return replace(comparison, groups=tuple(group for group in comparison.groups if group.title != "summary"))


def test_the_built_in_comparison_is_one_screen_in_short_and_says_where_the_rest_is(nine: Comparison) -> None:
    lines = screen(nine, 80).rstrip("\n").split("\n")
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[-11:-2]] == [one.name for one in nine.variants]
    assert [one.name for one in nine.variants[:3]] == ["detach()", "requires_grad_(False)", "no_grad()"]
    row = {line.split()[0]: line.split()[1:] for line in lines[-11:-2]}
    assert row["detach()"] == ["False", "12", "False", "shared", "tensor", "raises"]
    assert row["no_grad()"] == ["False", "0", "False", "same", "region", "no", "gradient"]
    assert row[".data"][3:] == ["shared", "tensor", "silently", "wrong"]
    assert "  result = source.detach()" in lines and lines[-1].startswith("autograd|storage|memory")


def test_a_group_alone_and_one_that_is_not_there() -> None:
    comparison = compare("stop_gradient", only=["nothing", "detach()"], groups=["storage"])
    assert [group.title for group in comparison.groups] == ["storage"]
    with pytest.raises(UsageError, match="no group of facts is called 'nix'") as raised:
        compare("stop_gradient", only=["nothing", "detach()"], groups=["nix"])
    assert "summary, autograd, storage" in str(raised.value.hint)


@shows_words_of_torch
@pytest.mark.parametrize("width", [80, 120])
def test_nine_variants(nine: Comparison, width: int, snapshot: SnapshotAssertion) -> None:
    text = screen(in_full(nine), width)
    assert max(map(len, text.split("\n"))) <= width
    assert "\n".join(line.rstrip() for line in text.split("\n")) == snapshot


def test_every_short_value_is_on_every_screen(nine: Comparison) -> None:
    for width in (60, 80, 120, 200, 400):
        text = screen(in_full(nine), width)
        for group in in_full(nine).groups:
            for row in group.rows:
                for cell in row.cells:
                    if isinstance(cell.value, str) and len(cell.value) < 8:
                        assert cell.value in text


def test_the_difference_from_the_baseline_needs_no_colour() -> None:
    short = compare("stop_gradient", only=["nothing", "detach()"], baseline="nothing")
    assert "≠ False" in screen(short, 80) and "≠ differs from nothing" in screen(short, 80)
    comparison = in_full(short)
    (line,) = [line for line in screen(comparison, 80).split("\n") if line.startswith("result requires_grad")]
    assert line.split() == ["result", "requires_grad", "≠", "False", "True"]
    assert "nothing (baseline)" in " ".join(screen(comparison, 120).split())
    assert "\x1b[" in screen(comparison, 80, force_terminal=True, color_system="standard")


HOSTILE = "[red]x[/red]\x1b[31m\x07|</td><script>"


def hostile() -> Comparison:
    variants = tuple(
        Variant(f"{HOSTILE}{at}", HOSTILE, "crash", 1, HOSTILE, 0, f"{HOSTILE}\nlast\n") for at in range(2)
    )
    cells = (Cell(HOSTILE, "error", True), Cell(HOSTILE * 9, "value", False))
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


def test_a_spreadsheet_takes_no_text_for_a_formula() -> None:
    (header, row) = csv.reader(io.StringIO(as_csv(formulas())))
    assert header[-2:] == ["'@a", "b"] and row[2] == "'=HYPERLINK(1)" and row[-2:] == ["'=1+1", "-2.5"]


def formulas() -> Comparison:
    """Names and values that begin as formulas do, and a number that does so too."""
    variants = tuple(Variant(name, name, "ok", 0, "", 0, "") for name in ("@a", "b"))
    cells = (Cell("=1+1", "value", True), Cell(-2.5, "value", False))
    rows = (row_of("watch", "=HYPERLINK(1)", "", cells),)
    return Comparison("t", "", variants, 0, (Group("watched", rows),), 1, 0, True, "2", "3")


def test_markdown_ends_with_what_its_marks_mean(nine: Comparison) -> None:
    assert f"{len(nine.variants)} variants" in as_markdown(nine).splitlines()[-1]
    assert "≠ differs from @a" in as_markdown(formulas()).splitlines()[-1]


def test_nothing_differs() -> None:
    none = Comparison("a b", "", (), None, (), 3, 3, False, "2", "3")
    assert "Nothing differs." in screen(none, 80)
    assert "Nothing differs." in as_markdown(none)


def test_json_is_as_its_schema_says(nine: Comparison) -> None:
    validator = Draft202012Validator(compare_schema())
    validator.validate(json.loads(as_json(nine)))
    (group, *_), cell = nine.groups, Cell(float("nan"), "value", False)
    odd = replace(nine, groups=(replace(group, rows=(replace(group.rows[0], cells=(cell,)),)),))
    document = json.loads(as_json(odd))
    validator.validate(document)
    assert document["groups"][0]["rows"][0]["cells"][0]["value"] == {"$float": "nan"}
    del document["variants"][0]["outcome"]
    assert not validator.is_valid(document)
