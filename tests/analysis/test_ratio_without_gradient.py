"""Ratios of a probability to itself, whose gradients cancel; and ratios to what is a constant, or of something else."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch.distributions import Categorical
policy, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
states, gains = torch.rand(8, 3), torch.rand(8)
actions = torch.randint(0, 2, (8,))
def chance(net, actions):
    return Categorical(logits=net(states)).log_prob(actions)
def taken(net, actions):
    return net(states).log_softmax(1).gather(1, actions[:, None]).squeeze(1)
{}
(ratio * gains).mean().backward()
"""


def lines(body: str) -> list[int]:
    answers = build(recorded(PROGRAM.replace("{}", body))).answers
    return [one.causes[0].line for one in answers if one.code == "ratio-without-gradient"]


@pytest.mark.parametrize(
    "body",
    [
        "old = Categorical(logits=policy(states)).log_prob(actions)  # here\n"
        "ratio = (Categorical(logits=policy(states)).log_prob(actions) - old).exp()",
        "each = list(actions)\n"
        "rows = [Categorical(logits=policy(s)).log_prob(a) for s, a in zip(states, each)]  # here\n"
        "ratio = torch.exp(chance(policy, torch.stack(each)) - torch.stack(rows))",
        "index = actions[:, None]\nheld = [policy(states).log_softmax(1).gather(1, index)]  # here\n"
        "ratio = torch.exp(policy(states).log_softmax(1).gather(1, index) - held[0]).squeeze(1)",
    ],
)
def test_the_line_that_keeps_the_old_one_is_the_cause(body: str) -> None:
    assert lines(body) == [line_of(PROGRAM.replace("{}", body), "# here")]


@pytest.mark.parametrize(
    "body",
    [
        "old = chance(policy, actions).detach()\nratio = (chance(policy, actions) - old).exp()",
        "with torch.no_grad(): old = chance(policy, actions)\nratio = (chance(policy, actions) - old).exp()",
        "ratio = (chance(policy, actions) - chance(other, actions)).exp()",
        "ratio = (chance(policy, actions) - chance(policy, 1 - actions)).exp()",
        "ratio = (chance(policy, actions) - chance(policy, actions).mean()).exp()",
        "now = chance(policy, actions)\nratio = (now - now.detach()).exp()",
        "ratio = (taken(policy, actions) - taken(policy, 1 - actions)).exp()",
    ],
)
def test_ratios_to_something_else_are_none(body: str) -> None:
    assert lines(body) == []


@pytest.mark.parametrize("second", ["old = logps  # here", "old = logps.detach()"])
def test_the_line_of_the_second_name_comes_first(second: str) -> None:
    source = f"""
import torch
policy = torch.nn.Linear(3, 4)
def loss_of(x, old=None):
    logps = torch.log_softmax(policy(x), 1)[:, 0]
    if old is None:
        {second}
    return -torch.minimum(torch.exp(logps - old) * 2, torch.exp(logps - old)).mean()
for step in range(40):
    loss_of(torch.rand(5, 3)).backward()
"""
    answers = [one for one in build(recorded(source)).answers if one.severity != "note"]
    lines = [line_of(source, "# here"), line_of(source, "torch.minimum")] if "here" in second else []
    assert [cause.line for one in answers for cause in one.causes] == lines
    assert all(f"old, which line {lines[0]} made a second name of one tensor" in one.text for one in answers)
