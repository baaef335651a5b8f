"""Optimizers that a constructor has made before the layers that it, or a subclass, makes after that."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
class Base(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.head = nn.Linear(width, 1)
        {base}
    def build(self, lr=0.1):
        self.optimizer = torch.optim.Adam(self.parameters(), lr=lr)  # optimizer
    def fit(self, x):
        loss = self(x).pow(2).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
class Net(Base):
    def __init__(self, width):
        {first}
        self.body = nn.Linear(width, width)  # body
        self.scale = nn.Parameter(torch.ones(width))  # scale
        {last}
    def forward(self, x):
        return self.head(torch.tanh(self.body(x)) * self.scale)
net = Net(4)
for step in range(5):
    net.fit(torch.randn(8, 4))
"""


def found(base: str = "pass", first: str = "super().__init__(width)", last: str = "pass") -> tuple[list[Answer], str]:
    source = PROGRAM.format(base=base, first=first, last=last)
    return [answer for answer in build(recorded(source)).answers if answer.code == "never-stepped"], source


@pytest.mark.parametrize(
    "first", ["super().__init__(width)", "Base.__init__(self, width)", "super(Net, self).__init__(width)"]
)
def test_the_call_that_builds_it_in_the_base_class_is_named_and_the_layers_of_the_subclass(first: str) -> None:
    (answer,), source = found("self.build()  # builds", f"{first}  # base")
    marks = ("# builds", "# base", "# optimizer", "# body", "# scale")
    assert [cause.line for cause in answer.causes] == [line_of(source, mark) for mark in marks]
    assert "was made before them" in answer.text


def test_one_that_the_constructor_of_the_base_class_makes_itself() -> None:
    made = "self.optimizer = torch.optim.Adam(self.parameters(), lr=0.1)  # itself"
    (answer,), source = found(made, "super().__init__(width)  # base")
    marks = ("# base", "# itself", "# body", "# scale")
    assert [cause.line for cause in answer.causes] == [line_of(source, mark) for mark in marks]


def test_one_that_the_same_constructor_makes_or_has_made() -> None:
    for call in ("self.build()  # here", "self.optimizer = torch.optim.SGD(self.parameters(), lr=0.1)  # here"):
        (answer,), source = found(first=f"super().__init__(width)\n        {call}")
        lines = [cause.line for cause in answer.causes]
        assert lines[0] == line_of(source, "# here")
        assert lines[-2:] == [line_of(source, "# body"), line_of(source, "# scale")]
        assert "was made before them" in answer.text


def test_one_that_is_made_last_holds_them_all() -> None:
    assert found(last="self.build()")[0] == []


def test_a_layer_that_is_made_before_it_and_left_out_is_not_said_to_be_made_later() -> None:
    made = "self.optimizer = torch.optim.SGD(self.head.parameters(), lr=0.1)  # head"
    (answer,), source = found(last=made)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# head")]
    assert "before" not in answer.text


@pytest.mark.parametrize("made", ["nn.Parameter(torch.ones(1))", "nn.Parameter(torch.rand(1))"])
def test_a_parameter_right_before_the_optimizer_is_not_said_to_be_made_later(made: str) -> None:
    source = f"""
import torch
from torch import nn
net = nn.Linear(3, 1)
scale = {made}
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    (net(torch.ones(2, 3)) * scale).sum().backward()
    optimizer.step()
"""
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "never-stepped"]
    assert "does not hold it" in answer.text
    assert "before" not in answer.text
