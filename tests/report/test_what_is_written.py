"""What the formats say of hostile, empty and rich recordings: each test would miss one way to write them."""

from __future__ import annotations

import csv
import json
from io import StringIO

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.view import RunView
from gradscope.recording import Fault
from gradscope.report.formats import format_named
from gradscope.report.run.run_result import RunResult
from tests.analysis.building import Builder, recorded
from tests.report.test_console import HOSTILE, screen

RICH = """
import torch
x = torch.ones(3, requires_grad=True)
w = torch.ones(3, requires_grad=True)
y = x.sigmoid()
s = y.data
d = x.detach()
try:
    torch.ones(2) + w
except RuntimeError:
    pass
with torch.no_grad():
    n = y * 2
    m = n + 1
loss = (y * x.detach() * d).sum()
s.zero_()
loss.backward()
print(w.grad, y.item() if False else loss.item())
"""


def hostile_run():
    """A recording with something on every part of the screen, every name, message and value of which is hostile."""
    recording = recorded(RICH)
    recording.values.extend(
        (tensor.op, row, len(recording.strings))
        for row, tensor in enumerate(recording.tensors)
        if tensor.op < len(recording.ops)
    )
    recording.strings.append("value")
    recording.watches.append((0, 3, 4, 0, len(recording.strings) - 1, 2, 0))
    recording.left_out.append((0, recording.ops.column("func")[0], 3))
    recording.faults.append(Fault("op", f"Traceback\nValueError: {HOSTILE}"))
    texts = {row.name for row in recording.bindings} | {row.message for row in recording.errors}
    texts |= {row.text for row in recording.values} | set(recording.ops.column("func"))
    for at in texts:
        recording.strings[at] = f"{recording.strings[at]}{HOSTILE}"
    for file in recording.files:
        file.text = "\n".join(f"{line}  # {HOSTILE}" for line in file.text.split("\n"))
    return recording


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_part_of_the_screen_obeys_a_program(width):
    view = RunView(all=True, ops=True, graph=True, memory=True)
    shown = screen(build(hostile_run(), view), width, view)
    for part in (
        "Lines",
        "Watched",
        "Ops",
        "Shared memory",
        "Gradients",
        "Other cuts",
        "Writes in place",
        "Graph of",
        "Memory by line",
    ):
        assert f"\n{part}" in shown, part
    assert not set(shown) & set("\x1b\x07\r\x9b\u202e\u2066")


def test_what_is_missing_is_said_at_the_end():
    builder = Builder()
    builder.op(1)
    builder.recording.left_out.append((0, builder.text("Tensor.mul"), 12))
    builder.recording.faults.append(Fault("op", "Traceback …\nValueError: ours", 3))
    builder.recording.info.outcome.kind = "running"
    shown = screen(build(builder.recording))
    assert "was cut off while it ran" in shown
    assert "12 ops left out by --max-ops" in shown
    assert "3 faults of gradscope's own" in shown and "ValueError: ours" in shown


def written(format_name, report_of, view=None):
    stream = StringIO()
    format_named(format_name, "run").writer("run")(RunResult(report_of, view or RunView()), stream)
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_csv_is_inert_and_has_every_field():
    recording = hostile_run()
    name = next(row.name for row in recording.bindings if recording.text(row.name).startswith("x"))
    recording.strings[name] = "=HYPERLINK(1)"
    rows = list(csv.DictReader(StringIO(written("csv", recording))))
    report = build(recording)
    assert len(rows) == len(report.lines)
    assert any(row["name"] == "'=HYPERLINK(1)" for row in rows)
    assert not set(written("csv", recording)) & set("\x1b\x07\x9b\u202e\u2066")
    assert [int(row["allocated_bytes"]) for row in rows] == [line.allocated_bytes for line in report.lines]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_markdown_obeys_nothing_and_has_each_fact_in_its_column():
    text = written("markdown", hostile_run())
    assert not set(text) & set("\x1b\x07\x9b\u202e\u2066")
    shown = written(
        "markdown", recorded("import torch\nx = torch.ones(2, requires_grad=True)\ny = (x * x).exp()\nz = x < y\n")
    ).split("\n")
    lines = shown[next(at for at, line in enumerate(shown) if line.startswith("|")) :]
    head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:5])]
    assert head[-3:] == ["new", "saved", "notes"]
    x, y, z = (dict(zip(head, row, strict=True)) for row in rows)
    assert (x["new"], x["saved"], y["new"], y["saved"]) == ("8 B", "", "16 B", "16 B")
    assert z["source"] == "`z = x < y`"
    assert "cut: Tensor.lt (an integer or boolean result has no gradient)" in z["notes"]


def test_markdown_has_title_answers_and_totals():
    recording = recorded(RICH)
    recording.info.title = "a *title*"
    first, _, end, _, *rest = written("markdown", recording).splitlines()
    assert (first, end) == ("# gradscope snippet.py: a &#42;title&#42;", "ok")
    answers = build(recording).answers
    assert [line.rpartition(" ")[2] for line in rest[: len(answers)]] == [f"`{one.code}`" for one in answers]
    assert all(line.startswith(f"- **{one.severity}** ") for line, one in zip(rest, answers, strict=False))
    assert rest[-1].startswith("tensor memory: peak at least ") and rest[-2].endswith("  ")


def test_markdown_words():
    from gradscope.report.run.markdown_format import words

    assert words("<b>|*a*`b`[c](d) https://x a_b _c_") == (
        "&#60;b&#62;&#124;&#42;a&#42;&#96;b&#96;&#91;c&#93;(d) https&#58;//x a_b &#95;c&#95;"
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "recording", [recorded(RICH), hostile_run(), Builder().recording], ids=["rich", "hostile", "empty"]
)
def test_json_is_as_its_schema_says(recording):
    from jsonschema import Draft202012Validator

    from gradscope.report.json_schema import run_lines_schema, run_schema

    view = RunView(ops=True)
    whole = json.loads(written("json", recording, view))
    Draft202012Validator.check_schema(run_schema())
    Draft202012Validator(run_schema()).validate(whole)
    lines = [json.loads(line) for line in written("jsonl", recording, view).splitlines()]
    for line in lines:
        Draft202012Validator(run_lines_schema()).validate(line)
    report = build(recording, view)
    assert whole["summary"]["ops"] == report.summary.ops
    assert len(whole["watches"]) == len(report.watches) == sum(line["type"] == "watch" for line in lines)


def test_a_name_that_is_too_long_keeps_its_end():
    from rich.text import Text

    from gradscope.report.screen.text import cut_to

    assert cut_to(Text("model.encoder.weight"), 8, keep_end=True).plain == "…weight"
    assert cut_to(Text("model.encoder.weight"), 8).plain == "model.e…"


def test_durations():
    from gradscope.report.compare.compare_cells import duration

    assert [duration(ns) for ns in (310, 45_600, 1_234_000, 2.5e9)] == ["310 ns", "45.6 µs", "1.23 ms", "2.5 s"]


def test_a_file_that_could_not_be_written_stays_as_it_was(tmp_path):
    from gradscope.report.output_files import open_output

    path = tmp_path / "kept.json"
    path.write_text("kept")
    with pytest.raises(ZeroDivisionError), open_output(path) as stream:
        stream.write("half")
        raise ZeroDivisionError
    assert path.read_text() == "kept"
    assert list(tmp_path.iterdir()) == [path]


def test_svg_loads_nothing():
    svg = written("svg", recorded(RICH))
    assert "@font-face" not in svg
