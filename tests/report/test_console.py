"""The screens: goldens at two widths, the program's text as text, and what must hold at any width."""

import re
from io import BytesIO, StringIO, TextIOWrapper
from unicodedata import category
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from syrupy.assertion import SnapshotAssertion

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Report
from gradscope.analysis.view import RunView
from gradscope.report.run.run_screen import render, render_svg
from gradscope.report.screen.text import safe
from tests.analysis.building import Builder, recorded

SNIPPET = """
import torch
x = torch.tensor([1.0, 2.0], requires_grad=True)
y = x * 2
d = y.detach()
with torch.no_grad():
    n = y + 1
loss = (y ** 2).sum()
loss.backward()
d[0] = 6
print(y.grad)
for step in range(3):
    s = x.exp()
"""

LONG_SCRIPT = "import torch\nx = torch.ones(2, requires_grad=True)\n" + "".join(
    f"y{number} = x * {number}\nz{number} = (y{number} ** 2).sum()\nz{number}.backward()\n" for number in range(40)
)


@pytest.fixture(scope="module")
def snippet() -> Report:
    return build(recorded(SNIPPET))


def screen(report: Report, width: int = 80, view: RunView | None = None, **options: object) -> str:
    """What a console of a width shows."""
    console = Console(width=width, file=StringIO(), **{"force_terminal": False, **options})  # type: ignore[arg-type]
    render(report, console, view)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_snippet(snippet: Report, width: int, snapshot: SnapshotAssertion) -> None:
    shown = screen(snippet, width)
    assert "\n".join(line.rstrip() for line in shown.split("\n")) == snapshot


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_nothing_is_wider_than_the_screen(snippet: Report, width: int) -> None:
    for view in (RunView(), RunView(all=True, graph=True, memory=True)):
        assert max(map(cell_len, screen(snippet, width, view).split("\n"))) <= width


@pytest.mark.parametrize("width", [80, 120])
def test_what_matters_is_there_at_any_width(snippet: Report, width: int) -> None:
    shown = screen(snippet, width)
    for fact in ("y.grad is None", "MulBackward0", "cut: detach", "no_grad", "v0→1", "B = y", "×3", "False", "8 B"):
        assert fact in shown


def test_the_answer_is_in_the_first_lines(snippet: Report) -> None:
    first = screen(snippet).split("\n")[1:4]
    assert "y.grad is None at line 10: y is not a leaf" in " ".join(first)


def test_colour_adds_nothing_but_colour(snippet: Report) -> None:
    coloured = screen(snippet, force_terminal=True, color_system="truecolor")
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == screen(snippet)


def test_a_long_script_fits_and_says_how_to_see_the_rest() -> None:
    report = build(recorded(LONG_SCRIPT))
    shown = screen(report)
    assert shown.count("\n") <= 40
    assert f"of {len(report.lines)} rows" in shown
    assert "--all" in shown
    assert "z39" in screen(report, view=RunView(all=True))
    assert screen(report, view=RunView(all=True)).count("\n") > 150


def test_quiet_leaves_the_answers_and_the_counts(snippet: Report) -> None:
    shown = screen(snippet, view=RunView(quiet=True))
    assert "y.grad is None" in shown
    assert "backward pass" in shown
    assert "Lines" not in shown


def test_parts_are_shown_when_asked_for(snippet: Report) -> None:
    assert "Graph of loss" in screen(snippet)
    assert "Graph of loss" not in screen(snippet, view=RunView(graph=False))
    assert "Memory by line" not in screen(snippet)
    assert "Memory by line" in screen(snippet, view=RunView(memory=True))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_op_when_asked_for() -> None:
    recording = recorded(SNIPPET)
    shown = screen(build(recording, RunView(ops=True)), 160, RunView(ops=True))
    table = shown[shown.index("\nOps\n") :].split("\n\n")[0]
    assert table.count("Tensor.exp") == 3
    assert len(table.strip().split("\n")) == 2 + len(recording.ops)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_console_without_unicode() -> None:
    file = TextIOWrapper(BytesIO(), encoding="ascii")
    render(build(recorded(SNIPPET + "ünï = torch.ones(1)\n")), Console(width=80, file=file, force_terminal=False))
    file.flush()
    shown = file.buffer.getvalue().decode("ascii")  # type: ignore[attr-defined]
    assert "y.grad is None" in shown
    assert "v0->1" in shown
    assert "\\xfcn\\xef" in shown


def test_wide_characters_keep_columns_aligned() -> None:
    report = build(recorded("import torch\n変数 = torch.ones(2)\nab = torch.ones(3)\n"))
    lines = screen(report, 120).split("\n")
    starts = [cell_len(line[: line.rindex(shape)]) for shape in ("(2,)", "(3,)") for line in lines if shape in line]
    assert len(starts) == 2
    assert starts[0] == starts[1]


HOSTILE = "\x1b[31mred\x1b[0m [bold]markup[/bold] \x07\r\x9b2J \u202emoc\u2066 :smile: [link=http://x]l[/link]"


def test_bytes_of_several_effects_of_a_line_say_whose_they_are() -> None:
    """What was made on the way to the pass is of the pass, and the step's is its own."""
    body = "import torch\nw = torch.ones(1000, requires_grad=True)\no = torch.optim.Adam([w])\n"
    together, apart = (screen(build(recorded(body + f"(w * w).sum().backward(){then}"))) for then in ("; o.step()", ""))
    assert re.search(r"^ +backward +7\.8 KiB +3\.9 KiB$", together, re.MULTILINE)
    assert re.search(r"^ +step +7\.8 KiB$", together, re.MULTILINE)
    assert not re.search(r"^ +backward +", apart, re.MULTILINE)
    assert re.search(r"^ +7\.8 KiB +3\.9 KiB$", apart, re.MULTILINE)


def hostile_report() -> Report:
    builder = Builder()
    builder.recording.files[0].text = f"t0 = {HOSTILE!s}\nt1 = 1\nt2 = 2"
    builder.recording.files[0].name = HOSTILE
    builder.recording.info.target = builder.recording.info.title = HOSTILE
    tensor = builder.op(1, HOSTILE, requires_grad=True)
    builder.bind(HOSTILE, tensor)
    for column in ("shape", "stride", "dtype", "device", "type_name", "form"):
        builder.recording.layouts.column(column)[0] = builder.text(HOSTILE)
    error = builder.op(2)
    builder.recording.errors.append((error, builder.text(HOSTILE), builder.text(HOSTILE)))
    builder.recording.ops.column("flags")[error] |= 8
    builder.recording.watches.append((builder.text(HOSTILE), 0, 1, 0, builder.text(HOSTILE), tensor, 0))
    return build(builder.recording)


@pytest.mark.parametrize("width", [80, 200])
def test_text_of_a_program_is_shown_as_text(width: int) -> None:
    shown = screen(hostile_report(), width, RunView(all=True, graph=True, memory=True))
    assert not set(shown) & set("\x1b\x07\r\x9b\u202e\u2066")
    assert "\\x1b[31mred" in shown
    assert "[bold]markup[/bold]" in shown
    assert ":smile:" in shown


def test_a_picture_of_hostile_text_is_well_formed() -> None:
    ElementTree.fromstring(render_svg(hostile_report()))


@given(st.text())
def test_no_control_character_is_ever_shown(text: str) -> None:
    shown = safe(text)
    obeyed = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert not [character for character in shown if character != "\u200d" and category(character) in obeyed]
    assert not set(shown) & {chr(code) for code in [*range(32), *range(127, 160)]}


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_plain_text_is_not_changed(text: str) -> None:
    assert safe(text) == text


@pytest.mark.parametrize("width", [90, 160])
def test_tensors_that_share_a_row_are_counted_also_where_not_all_require_grad(width: int) -> None:
    source = (
        "import torch\nfrom torch import nn\nnet = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))\n"
    )
    text = screen(build(recorded(source + "net(torch.ones(2, 3)).sum().backward()\n")), width)
    assert re.search(r"\b9 tensors +some +leaf", text)


def test_a_leaf_that_another_pass_trains_is_no_failure_of_the_pass_that_leaves_it() -> None:
    source = """
        import torch
        g, d, lost = (torch.ones(2, requires_grad=True) for _ in range(3))
        made = g * 2
        cut = (lost * d).detach()
        (made.detach() * d + cut).sum().backward()
        (made * d).sum().backward()
    """
    shown = screen(build(recorded(source)))
    (first, *_) = re.findall(r"Gradients\n.*?\n(.*?)(?=\nline)", shown, re.DOTALL)
    assert re.search(r"^  g +\(2,\) +missing +cut at line", first, re.MULTILINE)
    assert re.search(r"^  lost +\(2,\) +✗ missing +cut at line", first, re.MULTILINE)


@pytest.mark.parametrize("width", [80, 150])
def test_a_row_that_says_nothing_is_not_shown(width: int) -> None:
    source = """
import torch
w = torch.ones(3, requires_grad=True)
(w * 2).sum().backward(); w.grad; w.data.add_(1)
w.grad
"""
    report = build(recorded(source))
    assert {row.line for row in report.lines if row.kind == "read"} == {3, 4}
    table = screen(report, width).partition("Lines\n")[2].partition("\ntensors are")[0]
    assert [line for line in table.split("\n") if not line.strip()] == []
    assert re.search(r"^ *4 +w\.grad *$", table, re.MULTILINE)
