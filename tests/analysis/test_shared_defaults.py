"""Modules that a default makes once for all objects: found where several of these hold and train them, and not else."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """import torch
from torch import nn
class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 4)
    def forward(self, x):
        return self.fc(x)
class Branch(nn.Module):
    def __init__(self, width=2, encoder=Encoder()):  # default
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(4, width)
    def forward(self, x):
        return self.head(self.encoder(x))
"""
TRAIN = """
opt = torch.optim.SGD(online.parameters(), lr=0.1)
for step in range(3):
    with torch.no_grad():
        goal = target(torch.ones(5, 3))
    opt.zero_grad()
    (online(torch.ones(5, 3)) - goal).pow(2).mean().backward()
    opt.step()
"""
TWO = HEAD + "online, target = Branch(), Branch()" + TRAIN


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "default-argument-written" for cause in one.causes]


@pytest.mark.parametrize(
    "source",
    [
        TWO,
        TWO.replace("encoder=Encoder()", "*, encoder=nn.Sequential(nn.Linear(3, 4), nn.ReLU())"),
        TWO.replace(
            "super().__init__()\n        self.encoder, self.head = encoder,",
            "super().__init__()\n        self.encoder = encoder\n        self.head =",
        ),
        HEAD.replace("width=2, encoder=Encoder()", "made, width=2")
        .replace("= encoder,", "= made.encoder,")
        .replace("class Branch", "class Config:\n    encoder: nn.Module = Encoder()  # default\nclass Branch")
        + "online, target = Branch(Config()), Branch(Config())"
        + TRAIN,
        HEAD
        + "class Agent:\n    def __init__(self):\n        self.now, self.then = Branch(), Branch()\n"
        + "agent = Agent()"
        + TRAIN.replace("online", "agent.now").replace("target(", "agent.then("),
    ],
)
def test_the_default_is_the_cause(source: str) -> None:
    assert lines(source) == [line_of(source, "# default")]


@pytest.mark.parametrize(
    "source",
    [
        TWO.replace("encoder=Encoder()", "encoder=None").replace("= encoder,", "= encoder or Encoder(),"),
        TWO.replace("target = Branch(), Branch()", "target = Branch(), nn.Linear(3, 2)"),  # one object
        HEAD + "online = Branch()\ntarget = online" + TRAIN,  # two names of one
        HEAD + "online, target = Branch(), Branch(encoder=Encoder())" + TRAIN,
        HEAD.replace("=Encoder()", "=None") + "shared = Encoder()\n"
        "online, target = Branch(encoder=shared), Branch(encoder=shared)" + TRAIN,  # by the caller's will
        TWO.replace("online.parameters()", "online.head.parameters()"),  # it is not trained
        TWO.replace("encoder=Encoder()", "encoder=nn.ReLU()").replace("nn.Linear(4, width)", "nn.Linear(3, width)"),
    ],
)
def test_what_is_made_for_each_or_held_once_is_none(source: str) -> None:
    assert lines(source) == []


ACTIVATION = """
import torch
from torch import nn
class Block(nn.Module):
    def __init__(self, size, act={}):  # default
        super().__init__()
        self.fc = nn.Linear(size, size)
        self.act = {}
    def forward(self, x):
        return self.act(self.fc(x))
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList({})
    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x
net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(3):
    opt.zero_grad()
    net(torch.randn(5, 3)).pow(2).mean().backward()
    opt.step()
"""
BLOCKS = "[Block(3), Block(3)]"


def of_activation(default: str, kept: str, blocks: str) -> list[int]:
    answers = build(recorded(ACTIVATION.format(default, kept, blocks))).answers
    return [cause.line for one in answers if one.code == "default-argument-written" for cause in one.causes]


def test_an_activation_that_is_a_default_is_one_for_all_blocks() -> None:
    assert of_activation("nn.PReLU()", "act", BLOCKS) == [4]
    assert of_activation("nn.PReLU()", "act", "[Block(3) for _ in range(2)]") == [4]


def test_one_for_each_or_given_or_without_parameters_is_fine() -> None:
    assert of_activation("nn.PReLU", "act()", BLOCKS) == []
    assert of_activation("nn.ReLU()", "act", BLOCKS) == []
    assert of_activation("nn.PReLU()", "act", "[Block(3, nn.PReLU()), Block(3, act=nn.PReLU())]") == []
    assert of_activation("nn.PReLU()", "act", "[Block(3)]") == []
