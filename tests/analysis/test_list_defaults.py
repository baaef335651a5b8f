"""A list that is the default of an argument and keeps results of earlier calls: that default is the line to change."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.frames.names.list_defaults import list_default
from tests.analysis.building import line_of, recorded

KEPT = """
import torch
net = torch.nn.Linear(3, 1)
def train(x, seen={}):
    loss = net(x).pow(2).mean()
    loss.backward()
    seen{}
for step in range(8):
    train(torch.rand(4, 3){})
"""


@pytest.mark.parametrize(
    ("default", "put", "given", "line"),
    [
        ("[]", ".append(loss)", "", "def train"),
        ("{}", "[len(seen)] = loss", "", "def train"),
        ("list()", " += [loss]", "", "seen +="),
        ("[]", ".append(loss.detach())", "", ""),
        ("[]", ".append(loss)", ", []", ""),
    ],
)
def test_results_kept_in_a_default(default: str, put: str, given: str, line: str) -> None:
    source = KEPT.format(default, put, given)
    found = [one for one in build(recorded(source)).answers if one.code == "graph-kept-after-pass"]
    lines = [cause.line for answer in found for cause in answer.causes]
    assert lines == ([line_of(source, line)] if line else [])


SUMMED = """
import torch
w = torch.ones(3, requires_grad=True)
def penalty(x, terms={}):
    {}terms.append((w * x).pow(2).sum())
    return sum(terms)
for step in range(3):
    penalty(step).backward()
"""


def test_a_pass_that_leads_through_what_an_earlier_call_left() -> None:
    source = SUMMED.format("[]", "")
    (answer,) = (one for one in build(recorded(source)).answers if one.code == "graph-used-twice")
    assert [cause.line for cause in answer.causes] == [line_of(source, "def penalty")]
    source = SUMMED.format("None", "terms = []; ")
    assert not [one for one in build(recorded(source)).answers if one.code == "graph-used-twice"]


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("def f(x, rows=[]):\n    rows.append(x)\nf(1)", True),
        ("def f(x, *, rows=deque()):\n    rows.append(x)\nf(1)", True),
        ("class A:\n  def f(self, x, rows={}):\n    rows[x] = 1\nA().f(1)", True),
        ("def f(x, rows=()):\n    rows.append(x)\nf(1)", False),
        ("def f(x, rows=None):\n    rows.append(x)\nf(1)", False),
        ("def f(x, rows=[]):\n    rows.append(x)\nf(1, rows=[])", False),
        ("def f(x, rows=[]):\n    rows.append(x)\nf(*both)", False),
        ("def f(x, rows=[]):\n    rows = list(rows); rows.append(x)\nf(1)", False),
    ],
)
def test_what_is_such_a_default(text: str, is_one: bool) -> None:
    line = next(n for n, one in enumerate(text.split("\n"), 1) if "append" in one or "] =" in one)
    assert (list_default(text, line, "rows") is not None) is is_one
