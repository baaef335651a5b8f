"""Gradients that are cleared at the wrong place by helpers of the program: the line that calls one is to be changed."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """\
import torch
from torch import nn

class Engine:
    def __init__(self, optimizer, every):
        self.optimizer, self.every, self.count = optimizer, every, 0

    def zero_grad(self):
        self.optimizer.zero_grad(set_to_none=False)

    def backward(self, loss):
        self.count += 1
        (loss / self.every).backward()

    def step(self):
        if self.count % self.every == 0:
            self.optimizer.step()

    def run(self, loss):
        self.zero_grad()  # in run
        self.backward(loss)

def clear(optimizer):
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = None

def accumulate(loss):
    loss.backward()

net = nn.Linear(2, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
engine = Engine(optimizer, 3)
x = torch.ones(2, 2)
for batch in range(9):
"""


def told(loop: str) -> list[tuple[str, str, list[int]]]:
    codes = ("accumulation-cleared", "cleared-before-step", "never-stepped")
    source = HEAD + "".join(f"    {line}\n" for line in loop.split("\n"))
    answers = build(recorded(source)).answers
    return [(one.code, one.text, [cause.line for cause in one.causes]) for one in answers if one.code in codes]


@pytest.mark.parametrize(
    ("loop", "line", "call"),
    [
        ("engine.zero_grad()\nengine.backward(net(x).sum())\nengine.step()", 36, "engine.zero_grad"),
        ("engine.run(net(x).sum())\nengine.step()", line_of(HEAD, "# in run"), "self.zero_grad"),
        ("clear(optimizer)\naccumulate(net(x).sum())\nengine.count += 1\nengine.step()", 36, "clear"),
        ("clear(optimizer)\nnet(x).sum().backward()\nengine.count += 1\nengine.step()", 36, "clear"),
        # the line itself, where it stands beside the pass
        ("optimizer.zero_grad()\nnet(x).sum().backward()\nengine.count += 1\nengine.step()", 36, "Optimizer.zero_grad"),
        ("optimizer.zero_grad()\nengine.backward(net(x).sum())\nengine.step()", 36, "Optimizer.zero_grad"),
    ],
)
def test_the_line_of_the_program_is_named(loop: str, line: int, call: str) -> None:
    ((code, text, causes),) = told(loop)
    assert code == "accumulation-cleared"
    assert text.startswith(
        f"Line {line} ({call}) clears what all but the last of the 3 backward passes before each step"
    )
    assert causes == [line]


def test_of_two_calls_none_is_named_but_the_line_that_both_come_to() -> None:
    loop = "if batch % 2: engine.zero_grad()\nelse: engine.zero_grad()\nengine.backward(net(x).sum())\nengine.step()"
    line = line_of(HEAD, "self.optimizer.zero_grad")
    ((_, text, causes),) = told(loop)
    assert text.startswith(f"Line {line} (")
    assert causes == [line]


def test_where_another_function_calls_both_helpers_too_the_line_itself_is_named() -> None:
    loop = (
        "def other(loss):\n    engine.zero_grad()\n    engine.backward(loss)\n"
        "(other if batch % 2 else engine.run)(net(x).sum())\nengine.step()"
    )
    line = line_of(HEAD, "self.optimizer.zero_grad")
    ((_, text, causes),) = told(loop)
    assert text.startswith(f"Line {line} (")
    assert causes == [line]


def test_what_is_cleared_between_backward_and_the_step() -> None:
    ((code, text, causes),) = told("engine.backward(net(x).sum())\nengine.zero_grad()\noptimizer.step()")
    assert code == "cleared-before-step"
    assert "line 37 (engine.zero_grad) cleared it between backward and it" in text
    assert causes == [37]


def test_what_is_cleared_behind_the_step_is_silent() -> None:
    assert told("engine.backward(net(x).sum())\nengine.step()\nif batch % 3 == 2: engine.zero_grad()") == []


BETWEEN = """\
import torch
from torch import nn

class Solver:
    def __init__(self):
        self.net, self.weight = nn.Linear(2, 1), nn.Parameter(torch.ones(3))
        self.first = torch.optim.{optimizer}(self.net.parameters(), lr=0.1)
        self.second = torch.optim.{optimizer}([self.weight], lr=0.1)

    def clear(self):
        self.first.zero_grad()
        self.second.zero_grad()

    def loss(self, x):
        return (self.weight * self.net(x)).sum()

    def advance(self, x):
        self.clear()  # before
        self.loss(x).backward()
        self.first.step()
        self.clear()  # between
        self.second.step()

solver = Solver()
for batch in range(4):
    solver.advance(torch.ones(3, 2))
"""


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_of_two_calls_the_one_between_backward_and_the_step_of_its_optimizer_is_named(optimizer: str) -> None:
    source = BETWEEN.format(optimizer=optimizer)
    (answer,) = (one for one in build(recorded(source)).answers if one.code == "never-stepped")
    line = line_of(source, "# between")
    assert f"line {line} (self.clear) cleared" in answer.text
    assert [cause.line for cause in answer.causes] == [line]


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_a_call_that_clears_behind_both_steps_is_fine(optimizer: str) -> None:
    source = BETWEEN.format(optimizer=optimizer).replace("        self.clear()  # between\n", "")
    source = source.replace("        self.second.step()\n", "        self.second.step()\n        self.clear()\n")
    assert [one for one in build(recorded(source)).answers if one.code == "never-stepped"] == []
