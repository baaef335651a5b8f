"""A recording shows itself: in a notebook, as text, as rows; and nothing of the program is obeyed there."""

from __future__ import annotations

from html.parser import HTMLParser
from io import StringIO

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import LineRow
from gradscope.analysis.view import RunView
from gradscope.errors import EvaluationError
from gradscope.report.run.run_result import RunResult
from gradscope.report.run.table_format import write
from tests.analysis.building import recorded

PROGRAM = """
    import torch
    w = torch.ones(2, requires_grad=True)
    names = {"<script>alert(1)</script>": w * 2}
    (w * 3).detach().sum()
    h = w * 2
    h.sum().backward()
    h.grad
"""


class Tags(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen |= {tag, *(name for name, _ in attrs)}


def test_a_recording_shows_its_answers_lines_and_screen():
    recording = recorded(PROGRAM)
    assert repr(
        recording
    ) == f"<gradscope.Recording: {len(recording.ops)} ops, 10 tensors, 1 backward pass, ok>".replace(
        "10", str(len(recording.tensors))
    )
    assert recording.answers == build(recording).answers
    assert recording.answers[0].code == "grad-none-non-leaf"
    assert tuple(recording.lines[0]) == LineRow._fields
    text = recording.report(60)
    assert "[grad-none-non-leaf]" in text and max(map(len, text.splitlines())) <= 60
    assert len(recording.report(everything=True)) > len(text) > 0


def test_the_html_is_whole_and_text_of_the_program_is_text():
    page = recorded(PROGRAM)._repr_html_()
    assert Tags(page).seen == {"div", "code", "ul", "style", "li", "span", "details", "summary", "pre"}
    assert "&lt;script&gt;alert(1)" in page
    assert "http" not in page.replace("https://docs.pytorch.org", "")


def test_a_line_without_a_call_is_said_to_have_none():
    recording = recorded("import torch\nw = torch.ones(2)")
    texts = []
    for lines in ((999, 999), (2, 2)):
        stream = StringIO()
        write(RunResult(recording, RunView(lines=lines, width=80, color=False)), stream)
        texts.append(" ".join(stream.getvalue().split()))
    assert "No call of torch was seen on line 999, but on others" in texts[0]
    assert "No call" not in texts[1]


def test_a_recording_without_answers_says_so():
    assert "No answers." in recorded("import torch\nw = torch.ones(2)")._repr_html_()


def test_a_recording_answers_a_question_about_a_name_of_the_program():
    recording = recorded(PROGRAM)
    assert "h.grad" in recording.why("h.grad") and "retain_grad" in recording.why("h.grad", width=120)
    assert recording.why() == recording.why("h.grad") or "h.grad is None" in recording.why()
    with pytest.raises(EvaluationError, match="the recording has no tensor named nothing"):
        recording.why("nothing.grad")
