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
    "under-a-name-of-its-own": "from torch.nn.utils.parametrize import cached as kept\n"
    "with kept():  # open\n    train()",
    "on-a-stack": "from contextlib import ExitStack\nwith ExitStack() as stack:\n"
    "    stack.enter_context(parametrize.cached())  # open\n    train()",
    "where-asked": "from contextlib import nullcontext\n"
    "with parametrize.cached() if len(net) else nullcontext():  # open\n"
    "    train()",
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


# (the evaluation before it calls the same lines, so that nobody looks any more in which module they run)
RECURRENT = """\
import torch
from torch import nn
from torch.nn.utils import parametrize, parametrizations
torch.manual_seed(0)
class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 4)
        self.again = parametrizations.orthogonal(nn.Linear(4, 4, bias=False))
    def forward(self, x):
        h = x.new_zeros(len(x), 4)
        for part in self.inner(x).unbind(1):
            h = torch.tanh(self.again(h) + part)
        return h.sum(-1)
class Trainer:
    def __init__(self, net):
        self.net, self.opt = net, torch.optim.SGD(net.parameters(), lr=0.1)
    def train(self, batches):
        with parametrize.cached():  # open
            for x in batches:
                loss = self.net(x).pow(2).mean()
                self.opt.zero_grad()
                loss.backward()
                self.opt.step()
    @torch.no_grad()
    def test(self, batches):
        with parametrize.cached():
            return sum(self.net(x).pow(2).mean().item() for x in batches)
batches = [torch.randn(8, 20, 2) for _ in range(3)]
trainer = Trainer(Recurrent())
for _ in range(2):
    trainer.test(batches)
    trainer.train(batches)
"""


@pytest.mark.parametrize("weights", ["orthogonal", "weight_norm", "spectral_norm"])
def test_it_is_known_where_an_evaluation_had_run_the_same_lines_before(weights: str) -> None:
    program = RECURRENT.replace("parametrizations.orthogonal", f"parametrizations.{weights}")
    answers = [one for one in build(recorded(program)).answers if one.severity == "problem"]
    assert [[cause.line for cause in one.causes] for one in answers] == [[line_of(program, "# open")]]


def test_in_such_a_program_one_that_is_opened_for_each_batch_is_fine() -> None:
    program = RECURRENT.replace("with parametrize.cached():  # open", "if True:")
    program = program.replace(
        "                loss = self.net", "                with parametrize.cached(): loss = self.net"
    )
    assert [one for one in build(recorded(program)).answers if one.severity != "note"] == []
