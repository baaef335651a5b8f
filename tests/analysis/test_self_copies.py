"""A module that is loaded from itself under another name: the line that gave the second name is the cause."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

HEAD = """import copy
import torch
from torch import nn
def train(net):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.ones(2, 3)).sum().backward()
    optimizer.step()
"""


def found(source: str) -> list[Answer]:
    return [answer for answer in build(recorded(HEAD + source)).answers if answer.code == "loaded-from-itself"]


ONE = {
    "two attributes": """
class Agent:
    def __init__(self, net):
        self.policy = net
        self.target = net  # second
        self.target.load_state_dict(self.policy.state_dict())
agent = Agent(nn.Linear(3, 1))
train(agent.policy)
""",
    "a copy that a later line gives up": """
class Agent:
    def __init__(self):
        self.policy = nn.Linear(3, 1)
        self.target, self.rounds = copy.deepcopy(self.policy), 0
    def sync(self):
        self.target.load_state_dict(self.policy.state_dict())
        self.target, self.rounds = self.policy, self.rounds + 1  # second
agent = Agent()
for _ in range(2):
    train(agent.policy)
    agent.sync()
""",
    "the original that becomes the copy": """
fast, slow = nn.Linear(3, 1), nn.Linear(3, 1)
for _ in range(3):
    train(fast)
    slow.load_state_dict(fast.state_dict())
    fast = slow  # second
""",
    "by way of a state": """
online = nn.Linear(3, 1)
ema = online  # second
weights = online.state_dict()
ema.load_state_dict(weights)
train(online)
""",
    "one argument twice": """
class Agent:
    def __init__(self, policy, target):
        self.online_net, self.slow_net = policy, target
    def sync(self):
        self.slow_net.load_state_dict(self.online_net.state_dict())
net = nn.Linear(3, 1)
agent = Agent(net, net)  # second
train(net)
agent.sync()
""",
}


@pytest.mark.parametrize("case", ONE)
def test_the_line_that_gave_the_second_name_is_the_cause(case: str) -> None:
    (answer,) = found(ONE[case])
    line = line_of(HEAD + ONE[case], "# second")
    assert [cause.line for cause in answer.causes] == [line]
    assert answer.text.startswith(f"Line {line}: ")


TWO = {
    "the first of several that one state is handed to": """
nets = [nn.Linear(3, 1) for _ in range(3)]
server = nets[0]
for net in nets:
    train(net)
for net in nets:
    net.load_state_dict(server.state_dict())
""",
    "a copy": "a = nn.Linear(3, 1)\nb = copy.deepcopy(a)\nb.load_state_dict(a.state_dict())\ntrain(a)\n",
    "a copy that is made anew": """
a = nn.Linear(3, 1)
b = copy.deepcopy(a)
for _ in range(2):
    train(a)
    b.load_state_dict(a.state_dict())
    b = copy.deepcopy(a)
""",
    "another module": "a, b = nn.Linear(3, 1), nn.Linear(3, 1)\nb.load_state_dict(a.state_dict())\ntrain(a)\n",
    "the same name": "a = nn.Linear(3, 1)\na.load_state_dict(a.state_dict())\ntrain(a)\n",
    "a part": """
class Model(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body
body = nn.Linear(3, 1)
model = Model(body)
model.body.load_state_dict(body.state_dict())
train(body)
""",
    "a state that a function took of its argument": """
kept = {}
def keep(model):
    kept["best"] = model.state_dict()
net = nn.Linear(3, 1)
keep(net)
train(net)
net.load_state_dict(kept["best"])
""",
    "never trained": "a = nn.Linear(3, 1)\nb = a\nb.load_state_dict(a.state_dict())\nprint(b(torch.ones(1, 3)))\n",
    "one tied weight of two": """
a, b = nn.Linear(3, 1), nn.Linear(3, 1)
b.weight = a.weight
b.load_state_dict(a.state_dict())
train(a)
""",
}


@pytest.mark.parametrize("case", TWO)
def test_two_modules_or_one_name_are_not_blamed(case: str) -> None:
    assert found(TWO[case]) == []
