"""``Trying to backward through the graph a second time``: where the way leads into what was used up."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = "import torch\nx = torch.ones(3, requires_grad=True)\n"


@pytest.mark.parametrize(
    ("program", "parts"),
    [
        (
            "z = x.exp()\na = z.sum()\nb = z.sin().sum()\na.backward()\nb.backward()",
            ["Line 7: backward failed, since b leads through z (made at line 3)", "the backward of line 6 had used up"],
        ),
        (
            "h = x\nfor step in range(3):\n    h = (h * x).exp()\n    h.sum().backward()",
            ["Line 6: backward failed", "through h (made at line 5)", "its own earlier run had used up"],
        ),
        (
            "y = x.exp().sum()\ny.backward()\ny.backward()",
            ["Line 5: backward failed, since y leads into a graph that the backward of line 4 had used up"],
        ),
    ],
)
def test_the_way_into_the_used_up_graph(program: str, parts: list[str]) -> None:
    (answer,) = [one for one in build(recorded(HEAD + program)).answers if one.code == "graph-used-twice"]
    assert answer.severity == "problem"
    for part in parts:
        assert part in answer.text


def test_the_state_of_which_no_loss_was_computed_is_put_down_to_the_line_that_keeps_it() -> None:
    program = HEAD + (
        "rnn = torch.nn.LSTM(3, 3)\n"
        "class Runner:\n    state = None\n"
        "    def window(self):\n"
        "        out, self.state = rnn(torch.ones(2, 3), self.state)\n"
        "        out.sum().backward()\n"
        "runner = Runner()\nrunner.window()\nrunner.window()"
    )
    (answer,) = [one for one in build(recorded(program)).answers if one.code == "graph-used-twice"]
    assert {cause.line for cause in answer.causes} == {7}


def test_another_error_is_not_explained_so() -> None:
    answers = build(recorded(HEAD + "x.exp().backward()")).answers
    assert "graph-used-twice" not in {answer.code for answer in answers}


def test_what_a_helper_returned_is_put_down_to_the_line_that_kept_it() -> None:
    program = HEAD + (
        "def scaled():\n    out = x.exp()\n    return out * 2\n"
        "o = torch.optim.SGD([x], lr=0.1)\n"
        "kept = scaled()\n"
        "for _ in range(2):\n    (kept * x).sum().backward()\n    o.step()"
    )
    (answer,) = [one for one in build(recorded(program)).answers if one.code == "graph-used-twice"]
    assert [cause.line for cause in answer.causes] == [7]
    assert "through kept (made at line 7)" in answer.text
    assert answer.advice.startswith("Either compute it anew")
    assert "retain_graph" not in answer.advice  # the step wrote what the graph had saved


def test_what_a_function_keeps_in_a_cache_is_put_down_to_the_line_that_fills_it() -> None:
    program = HEAD + (
        "cache = {}\n"
        "def scaled(key):\n    if key not in cache:\n        cache[key] = make()\n    return cache[key]\n"
        "def make():\n    return x.exp()\n"
        "for _ in range(2):\n    (scaled(1) * x).sum().backward()"
    )
    (answer,) = [one for one in build(recorded(program)).answers if one.code == "graph-used-twice"]
    assert [cause.line for cause in answer.causes] == [6]


def test_a_state_that_is_carried_is_to_be_detached() -> None:
    program = HEAD + "h = x\nfor step in range(3):\n    h = (h * x).exp()\n    h.sum().backward()"
    (answer,) = [one for one in build(recorded(program)).answers if one.code == "graph-used-twice"]
    assert answer.advice.startswith("Either cut it off with detach()")


@pytest.mark.parametrize(
    ("program", "line"),
    [
        (
            "g, d = torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)\n"
            "step = torch.optim.SGD(d.parameters(), lr=0.1).step\n"
            "fake = g(x)\n"
            "first = d(fake).mean()\n"
            "first.backward()\nstep()\nd(fake).mean().backward()",
            6,
        ),
        (
            "class Net:\n    h = x\n    def step(self):\n        h = (self.h * x).exp()\n        self.h = h\n"
            "        return h.sum()\n"
            "net = Net()\nfor _ in range(2):\n    net.step().backward()",
            7,
        ),
        (
            "def scaled():\n    return x.exp()\n"
            "kept = {}\nfor key in 'ab':\n    kept[key] = scaled()\n"
            "for _ in range(2):\n    (kept['a'] * x).sum().backward()",
            7,
        ),
    ],
    ids=["not-detached-for-the-first-pass", "put-on-an-object", "put-into-a-dict"],
)
def test_the_line_that_one_would_change(program: str, line: int) -> None:
    (answer,) = [one for one in build(recorded(HEAD + program)).answers if one.code == "graph-used-twice"]
    assert [cause.line for cause in answer.causes] == [line]


RUNNING = HEAD + (
    "class Bank:\n"
    "    mean = None\n"
    "    def near(self, value):\n        return value if self.mean is None else value - self.mean\n"
    "    def keep(self, value):\n        self.mean = value if self.mean is None else 0.9 * self.mean + 0.1 * value\n"
    "bank, norm = Bank(), torch.zeros(())\n"
    "for _ in range(3):\n"
    "    h = (x * 2).exp()\n"
    "    loss = bank.near(h).square().mean() - norm\n"
    "    {}\n"
    "    loss.backward()"
)


@pytest.mark.parametrize(
    ("keeps", "named", "line"),
    [("bank.keep(h * 3)", "self.mean (saved at line 8)", 8), ("norm = norm + h.norm()", "norm (made at line 13)", 13)],
    ids=["by-an-object", "by-a-name"],
)
def test_what_keeps_a_result_of_the_earlier_run_is_meant_not_what_it_was_made_of(keeps: str, named: str, line: int):
    (answer,) = [one for one in build(recorded(RUNNING.format(keeps))).answers if one.code == "graph-used-twice"]
    assert [cause.line for cause in answer.causes] == [line]
    assert f"through {named} into a graph" in answer.text
    assert "Either cut it off with detach()" in answer.advice


def test_what_is_computed_once_is_meant_though_another_was_made_of_it_before_the_first_pass():
    program = HEAD + "h = x.exp()\nz = h.sin()\nh.sum().backward()\nfor _ in range(2):\n    (z * x).sum().backward()"
    (answer,) = [one for one in build(recorded(program)).answers if one.code == "graph-used-twice"]
    assert "through h (made at line 3)" in answer.text


@pytest.mark.parametrize(
    ("writes", "line"),
    [
        ("    state.copy_(out)", 8),
        ("    state[:2] = out\n    state.mul_(0.5)", 8),
        ("    with torch.no_grad():\n        state.mul_(0.5)\n    state.index_copy_(0, torch.arange(2), out)", 10),
    ],
)
def test_memory_that_has_its_graph_from_a_write_is_put_down_to_that_write(writes: str, line: int) -> None:
    program = HEAD + (
        "state = torch.zeros(2, 3)\n"
        "for step in range(3):\n"
        "    out = (state * x).tanh()\n"
        "    loss = out.sum()\n"
        "    loss.backward()\n"
        f"{writes}\n"
    )
    (answer,) = [one for one in build(recorded(program)).answers if one.code == "graph-used-twice"]
    assert [cause.line for cause in answer.causes] == [line]
    assert f"(written at line {line})" in answer.text


def test_memory_that_had_a_graph_before_it_was_written_into_is_not_put_down_to_the_write() -> None:
    program = HEAD + ("kept = x.sin()\nkept[0] = x[1]\nfor step in range(2):\n    kept.exp().sum().backward()")
    (answer,) = [one for one in build(recorded(program)).answers if one.code == "graph-used-twice"]
    assert [cause.line for cause in answer.causes] == [3]
