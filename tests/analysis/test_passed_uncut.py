"""States passed through ``torch.no_grad()``, or a function that detaches another type, keep their graphs."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = """
import torch
from torch import nn
torch.manual_seed(0)
cell, rnn, xs = nn.GRUCell(2, 3), nn.LSTM(2, 3), [torch.randn(2, 2) for _ in range(4)]
hidden = torch.zeros(2, 3)
state = (torch.zeros(1, 2, 3), torch.zeros(1, 2, 3))
"""
LINES = HEAD.strip("\n").count("\n") + 1
LOOP = "for x in xs:\n    {}\n    hidden = cell(x, hidden)\n    hidden.sum().backward()\n"
LSTM = "for x in xs:\n    out, state = rnn(x[None], {})\n    out.sum().backward()\n"
CODES = {"graph-used-twice", "graph-carried-along"}


def said(source: str) -> list[tuple[str, list[int]]]:
    answers = build(recorded(HEAD + source)).answers
    return [(one.text, [cause.line - LINES for cause in one.causes]) for one in answers if one.code in CODES]


@pytest.mark.parametrize(
    ("source", "line"),
    [
        pytest.param(LOOP.format("with torch.no_grad(): hidden = hidden"), 2, id="in the loop"),
        pytest.param(
            "def cut(h):\n    with torch.no_grad():\n        return h\n" + LOOP.format("hidden = cut(hidden)"),
            2,
            id="by a function",
        ),
        pytest.param(
            "@torch.no_grad()\ndef cut(h):\n    return h\n" + LOOP.format("hidden = cut(hidden)"), 1, id="decorated"
        ),
        pytest.param(
            "def cut(s):\n    with torch.no_grad():\n        return tuple(h for h in s)\n" + LSTM.format("cut(state)"),
            2,
            id="where it is called with it",
        ),
        pytest.param(
            "@torch.no_grad()\ndef cut(s):\n    kept = []\n    for h in s:\n        kept.append(h.to('cpu'))\n"
            "    return tuple(kept)\n" + LSTM.format("cut(state)"),
            1,
            id="one by one",
        ),
        pytest.param(
            "class Runner:\n"
            "    def __init__(self): self.states = {'h': hidden}\n"
            "    @torch.no_grad()\n"
            "    def _reset(self, states): return {k: v for k, v in states.items()}\n"
            "    def run(self):\n"
            "        for x in xs:\n"
            "            self.states = self._reset(self.states)\n"
            "            self.states['h'] = cell(x, self.states['h'])\n"
            "            self.states['h'].sum().backward()\n"
            "Runner().run()",
            3,
            id="a dict of a class",
        ),
        pytest.param(
            "@torch.no_grad()\ndef cut(h):\n    return h\n"
            "for x in xs * 3:\n    hidden = cut(hidden)\n    hidden = cell(x, hidden)\n"
            "    hidden.sum().backward(retain_graph=True)\n",
            1,
            id="a graph that grows",
        ),
    ],
)
def test_the_region_is_the_cause(source: str, line: int) -> None:
    ((text, causes),) = said(source)
    assert causes == [line]
    assert "passes through" in text


CUT = "def cut(h):\n    if isinstance(h, torch.Tensor):\n        return h.detach()\n    return tuple({} for v in h)\n"


def test_the_return_that_hands_on_what_it_is_given_is_the_cause() -> None:
    ((text, causes),) = said(CUT.format("v") + LSTM.format("cut(state)"))
    assert causes == [4]
    assert "line 12 returns what it is given as it is" in text.replace(f"line {4 + LINES}", "line 12")


CARRIED = "for x in xs:\n    out, (h, c) = rnn(x[None], state)\n    out.sum().backward()\n    {}\n"


@pytest.mark.parametrize(
    ("source", "line"),
    [
        pytest.param(CARRIED.format("state = (h.detach(), c)"), 4, id="a tuple"),
        pytest.param(CARRIED.format("state = [h, c.detach().clone()]"), 4, id="a list"),
        pytest.param(
            "def cut(states):\n    kept = {}\n    for name, (h, c) in states.items():\n"
            "        kept[name] = (h.detach(), c)\n    return kept\n"
            + CARRIED.format("state = cut({'one': (h, c)})['one']"),
            4,
            id="in a dict of a function",
        ),
        pytest.param(
            "import collections\nState = collections.namedtuple('State', 'h c')\n"
            + CARRIED.format("state = State(c=c, h=h.detach())"),
            6,
            id="an object",
        ),
    ],
)
def test_the_line_that_detaches_one_of_two_is_the_cause(source: str, line: int) -> None:
    ((text, causes),) = said(source)
    assert causes == [line]
    assert f"line {line + LINES} detaches {'c, not h' if 'c.detach' in source else 'h, not c'}" in text


@pytest.mark.parametrize("source", ["state = (h, c); log = (h.detach(), c)", "state = (h, c); print((h.detach(), c))"])
def test_a_line_that_detaches_one_for_something_else_is_not(source: str) -> None:
    ((text, _),) = said(CARRIED.format(source))
    assert "detaches" not in text
    assert not said(CARRIED.format("state = (h.detach(), c.detach())"))


@pytest.mark.parametrize("source", [LSTM.format("cut(state)"), LOOP.format("hidden = cut(hidden)")])
def test_a_function_that_detaches_both_is_none(source: str) -> None:
    assert not said(CUT.format("cut(v)") + source)


@pytest.mark.parametrize("lost", ["logged = cut((hidden, x))", "print(len(cut((hidden, x))))"])
def test_a_function_that_detaches_what_is_lost_is_not_blamed(lost: str) -> None:
    ((text, _),) = said(CUT.format("v") + LOOP.format(lost))
    assert "as it is" not in text


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(LOOP.format("with torch.no_grad(): kept = hidden"), id="another name"),
        pytest.param(LOOP.format("with torch.no_grad(): norm = hidden.norm()"), id="a number of it"),
        pytest.param(
            "@torch.no_grad()\ndef log(h):\n    print(h.norm())\n    return h\n" + LOOP.format("log(hidden)"),
            id="a log",
        ),
        pytest.param("def cut(h):\n    return h\n" + LOOP.format("hidden = cut(hidden)"), id="without no_grad"),
    ],
)
def test_another_region_is_not(source: str) -> None:
    ((text, _),) = said(source)
    assert "passes through" not in text


@pytest.mark.parametrize(
    "source",
    [
        "with torch.no_grad(): hidden = hidden.clone()",
        "hidden = hidden.data",
        "with torch.no_grad(): hidden = hidden.detach()",
        "with torch.no_grad(): hidden = hidden + 0",
    ],
)
def test_what_is_cut_off_is_silent(source: str) -> None:
    assert not said(LOOP.format(source))
