"""A buffer that a method writes and gives back as it is, and that a list then keeps again and again."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

ENV = """
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Linear(3, 3)
class Env:
    def __init__(self):
        self.obs = torch.zeros(3)
    def step(self, action):
        self.obs.add_(action)
        return self.obs, -self.obs.norm()  # back
env = Env()
"""
HANDED = f"""{ENV}
class Rollout:
    def __init__(self):
        self.data = {{"obs": [], "action": []}}
    def add(self, **given):
        for key, value in given.items():
            self.data[key].append(value)
    def tensors(self):
        return {{key: torch.stack(values) for key, values in self.data.items()}}
rollout, obs = Rollout(), env.obs
for step in range(5):
    action = torch.randn(3)
    obs, reward = env.step(action)
    rollout.add(obs=obs, action=action)  # put
batch = rollout.tensors()
(net(batch["obs"]) - batch["action"]).pow(2).sum().backward()
"""
ITEMS = f"""{ENV}
seen = []
for step in range(5):
    obs, reward = env.step(torch.randn(3))
    seen.append((obs, reward))  # put
states, rewards = zip(*seen)
net(torch.stack(states)).sum().backward()
"""
GETTER = ITEMS.replace("# back\n", "\n").replace(
    "        return self.obs, -self.obs.norm()",
    "        return self.look(), 1.0\n    def look(self):\n        return self.obs  # back",
)


def found(source: str) -> list[Answer]:
    return [answer for answer in build(recorded(source)).answers if answer.code == "kept-again"]


@pytest.mark.parametrize("source", [HANDED, ITEMS, GETTER], ids=["handed by keywords", "items", "getter"])
def test_the_return_without_a_copy_is_the_cause_and_then_the_line_that_keeps_it(source: str) -> None:
    (answer,) = found(source)
    back, put = line_of(source, "# back"), line_of(source, "# put")
    assert [cause.line for cause in answer.causes] == [back, put]
    assert answer.text.startswith(f"Line {back}: ")
    assert "gives back self.obs itself" in answer.text
    assert f"line {put} puts this one tensor into" in answer.text


@pytest.mark.parametrize(
    ("shared", "own"),
    [
        ("return self.obs, ", "return self.obs.clone(), "),
        ("self.obs.add_(action)", "self.obs = self.obs + action"),
        ("append(value)", "append(value.clone())"),
        ("rollout.add(obs=obs,", "rollout.add(obs=obs.clone(),"),
    ],
)
def test_what_is_handed_on_as_a_copy_is_silent(shared: str, own: str) -> None:
    assert shared in HANDED
    assert not found(HANDED.replace(shared, own))


def test_a_buffer_that_is_written_only_after_it_was_joined_is_silent() -> None:
    source = HANDED.replace("    obs, reward = env.step(action)\n", "") + "env.step(action)\nenv.step(action)\n"
    assert not found(source)


def test_a_list_that_is_given_the_attribute_itself_is_to_copy_it() -> None:
    source = ITEMS.replace("seen.append((obs, reward))", "seen.append((env.obs, reward))")
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# put")]
