"""Context managers that are made as a statement of their own, and those that are entered."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

HEAD = """
import contextlib
import torch
from torch import no_grad
w = torch.ones(3, requires_grad=True)
class Net:
    scale = 2
    @contextlib.contextmanager
    def bare(self):
        self.scale = 1
        yield
        self.scale = 2
    def bared(self):
        self.scale = 1
net, stack = Net(), contextlib.ExitStack()
def run():
    {}
    return w * net.scale
"""


def said(statement: str) -> tuple[str, list[Answer]]:
    source = HEAD.format(statement) + "run()\n"
    return source, [one for one in build(recorded(source)).answers if one.code == "context-not-entered"]


@pytest.mark.parametrize("call", ["net.bare()", "torch.no_grad()", "no_grad()", "torch.autocast('cpu')"])
def test_what_is_made_and_not_entered_is_named(call: str) -> None:
    source, (answer,) = said(f"{call}  # here")
    assert [cause.line for cause in answer.causes] == [line_of(source, "# here")]
    assert answer.text.endswith(f"Write with {call}: around what is meant.")


@pytest.mark.parametrize(
    "statement",
    [
        "with net.bare(): pass",
        "stack.enter_context(net.bare())",
        "held = net.bare()",
        "net.bared()",
        "torch.set_grad_enabled(True)",
    ],
)
def test_what_is_entered_kept_or_no_context_manager_is_none(statement: str) -> None:
    assert said(statement)[1] == []


MODULE = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Linear(3, 1)
    def forward(self, x):
        return self.body(x)
def validate(net, x):
    torch.no_grad()
    return net(x)
net = Net()
"""


def test_what_runs_behind_it_may_be_a_module_of_the_programs() -> None:
    (answer,) = (
        one
        for one in build(recorded(f"{MODULE}validate(net, torch.ones(2, 3))")).answers
        if one.code == "context-not-entered"
    )
    assert "line 10 runs" in answer.text
    without = build(recorded(f"{MODULE}net(torch.ones(2, 3))")).answers
    assert "context-not-entered" not in [one.code for one in without]


def test_what_never_ran_is_none() -> None:
    assert [one.code for one in build(recorded(HEAD.format("net.bare()"))).answers] == []
