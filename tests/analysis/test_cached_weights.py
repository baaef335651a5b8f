"""``torch.nn.utils.parametrize.cached()`` that stays open over several backward passes: the line that opens it."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """\
import torch
from torch import nn
from torch.nn.utils import parametrize, parametrizations
class Symmetric(nn.Module):
    def forward(self, X):
        return VALUE
net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))
parametrize.register_parametrization(net[0], "weight", Symmetric())
opt = torch.optim.SGD(net.parameters(), lr=0.1)
x = torch.randn(8, 3)
def step():
    loss = (net(x) - 1).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
def train():
    for _ in range(5):
        step()
RUN
"""
RUNS = {
    "around": "with parametrize.cached():  # open\n    train()",
    "in-the-same-place": "with parametrize.cached():  # open\n    for _ in range(5):\n        step()",
    "decorator": "@parametrize.cached()  # open\ndef run():\n    train()\nrun()",
}
SILENT = {
    "each-step": "for _ in range(5):\n    with parametrize.cached():\n        step()",
    "evaluation": "train()\nwith parametrize.cached(), torch.no_grad():\n    net(x), net(x)",
    "none": "train()",
}
SAVES, SAVES_NOTHING = "X.exp()", "X.triu() + X.triu(1).transpose(-1, -2)"
CODES = {SAVES: "graph-used-twice", SAVES_NOTHING: "stale-result"}


def found(value: str, run: str) -> tuple[list[tuple[str, list[int]]], str]:
    program = PROGRAM.replace("VALUE", value).replace("RUN", run)
    answers = [one for one in build(recorded(program)).answers if one.code in CODES.values()]
    return [(one.code, [cause.line for cause in one.causes]) for one in answers], program


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("value", CODES)
def test_the_line_that_opens_it_is_named(value: str, run: str) -> None:
    answers, program = found(value, run)
    assert answers == [(CODES[value], [line_of(program, "# open")])]


@pytest.mark.parametrize("run", SILENT.values(), ids=SILENT)
@pytest.mark.parametrize("value", CODES)
def test_what_is_opened_for_one_pass_alone_is_left_alone(value: str, run: str) -> None:
    assert found(value, run)[0] == []


def test_a_weight_that_the_program_keeps_itself_is_not_put_down_to_it() -> None:
    run = "with parametrize.cached(), torch.no_grad():\n    net(x)\nweight = net[0].weight  # kept\n"
    run += "for _ in range(2):\n    (x @ weight).sum().backward()"
    answers, program = found(SAVES, run)
    assert answers == [("graph-used-twice", [line_of(program, "# kept")])]
