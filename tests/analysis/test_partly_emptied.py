"""Lists that are filled together and emptied apart: what empties the others is the line to change."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.frames.names.partly_emptied import partly_emptied
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
class Memory:
    def __init__(self):
        self.scores, self.rewards = [], []
    def add(self, score, reward):
        self.scores.append(score)
        self.rewards.append(reward)
    def clear(self):
        {}
w = torch.ones(3, requires_grad=True)
memory = Memory()
for episode in range(8):
    for step in range(3):
        memory.add((w * step).exp().sum(), 1.0)
    loss = sum(score * reward for score, reward in zip(memory.scores, memory.rewards))
    loss.backward({})
    memory.clear()
"""


@pytest.mark.parametrize(
    "emptying", ["self.rewards.clear()", "del self.rewards[:]", "for one in ('rewards',): setattr(self, one, [])"]
)
def test_a_pass_that_leads_through_what_was_not_emptied(emptying: str) -> None:
    source = SOURCE.format(emptying, "")
    (answer,) = (one for one in build(recorded(source)).answers if one.code == "graph-used-twice")
    assert [cause.line for cause in answer.causes] == [line_of(source, emptying)]
    assert "empties rewards only, and memory.scores still has what earlier runs put there" in answer.text


def test_memory_that_stays_in_what_was_not_emptied() -> None:
    source = SOURCE.format("del self.rewards[:]", "retain_graph=True")
    (answer,) = (one for one in build(recorded(source)).answers if one.code == "memory-kept-by-graph")
    assert [cause.line for cause in answer.causes] == [line_of(source, "del"), line_of(source, "append")]


@pytest.mark.parametrize(
    "emptying", ["self.rewards, self.scores = [], []", "self.rewards.clear(); self.scores.clear()"]
)
def test_what_is_emptied_altogether(emptying: str) -> None:
    assert not build(recorded(SOURCE.format(emptying, ""))).answers


@pytest.mark.parametrize(
    "text",
    [
        "def f(self):\n    self.kept.append(1); self.rows.append(1)\ndef g(self): self.other.clear()",
        "def f(self):\n    self.kept.append(1); self.rows.append(1)\ndef g(self): self.rows.clear(); self.kept[:] = []",
        "def f(a):\n    a.kept.append(1)\ndef g(b): b.rows.append(1); b.rows.clear()",
        "def __init__(self):\n    self.kept.append(1); self.rows = []; self.rows.append(1)",
    ],
)
def test_other_lists_say_nothing(text: str) -> None:
    assert partly_emptied(text, 2, "kept") is None


APART = """
import torch
class Agent:
    def __init__(self):
        self.scores = []
        self.rewards = []
    def act(self, score):
        self.scores.append(score)
w = torch.ones(3, requires_grad=True)
agent = Agent()
def finish():
    sum(score * reward for score, reward in zip(agent.scores, agent.rewards)).backward()
    {}
for episode in range(4):
    for step in range(3):
        agent.act((w * step).exp().sum())
        agent.rewards.append(1.0)
    finish()
"""


def test_lists_of_one_object_that_are_filled_in_two_places() -> None:
    source = APART.format("agent.rewards = []")
    (answer,) = (one for one in build(recorded(source)).answers if one.code == "graph-used-twice")
    assert [cause.line for cause in answer.causes] == [line_of(source, "    agent.rewards = []")]
    assert not build(recorded(APART.format("agent.rewards, agent.scores = [], []"))).answers
