"""Bootstrapped targets and advantages that gradients flow through; and what is meant to have a gradient."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
import torch.nn.functional as F
body, value, policy = torch.nn.Linear(3, 4), torch.nn.Linear(4, 1), torch.nn.Linear(4, 2)
other = torch.nn.Linear(3, 1)
state, following, reward, done = torch.rand(6, 3), torch.rand(6, 3), torch.rand(6), torch.zeros(6)
now, then = value(body(state)).squeeze(1), value(body(following)).squeeze(1)
choice = torch.distributions.Categorical(logits=policy(body(state)))
action = choice.sample()
{}
loss.backward()
"""


def lines(body: str, code: str) -> list[int]:
    answers = build(recorded(PROGRAM.format(body))).answers
    return [one.causes[0].line for one in answers if one.code == code]


@pytest.mark.parametrize(
    "body",
    [
        "target = reward + 0.9 * then * (1 - done)  # here\nloss = (now - target).pow(2).mean()",
        "best = torch.minimum(then, other(following).squeeze(1).detach())\n"
        "target = 0.9 * best + reward  # here\nloss = F.smooth_l1_loss(now, target)",
    ],
)
def test_a_target_that_the_same_weights_move(body: str) -> None:
    assert lines(body, "target-with-gradient") == [line_of(PROGRAM.format(body), "# here")]


def test_the_line_that_computed_what_follows_is_named_too() -> None:
    """In a loop the name of the value is given anew by the line that reads it, which is none that computed it."""
    source = """
import torch
value = torch.nn.Linear(3, 1)
for step in range(3):
    ret = value(torch.rand(6, 3)).squeeze(1)
    returns = []
    for reward in torch.rand(4, 6):
        ret = reward + 0.9 * ret * (1 - torch.zeros(6))
        returns.append(ret)
    torch.nn.functional.mse_loss(value(torch.rand(24, 3)).squeeze(1), torch.cat(returns)).backward()
"""
    [found] = [one for one in build(recorded(source)).answers if one.code == "target-with-gradient"]
    sums, computed = line_of(source, "0.9"), line_of(source, "ret = value")
    assert [cause.line for cause in found.causes] == [sums, computed]
    assert f"through the value that line {computed} computed" in found.text


@pytest.mark.parametrize(
    "body",
    [
        "target = reward + 0.9 * then.detach()\nloss = (now - target).pow(2).mean()",
        "target = reward + 0.9 * other(following).squeeze(1)\nloss = (now - target).pow(2).mean()",
        "flow = done + 0.1 * then\nshift = flow\nloss = (reward - shift).pow(2).mean()",
        "z = torch.ones(6)\nmixed = z + 0.5 * value(body(state + 1)).squeeze(1)\nloss = (now - mixed).pow(2).mean()",
    ],
)
def test_a_constant_target_another_network_or_a_residual_is_none(body: str) -> None:
    assert lines(body, "target-with-gradient") == []


@pytest.mark.parametrize(
    "body",
    [
        "gain = reward - now\nloss = -(choice.log_prob(action) * gain).mean() + F.mse_loss(now, reward)  # here",
        "gain = reward - now\ngain = (gain - gain.mean()) / (gain.std() + 1e-8)\n"
        "ratio = (choice.log_prob(action) - choice.log_prob(action).detach()).exp()\n"
        "loss = -(ratio * gain).mean() + F.mse_loss(now, reward)  # here",
        "gain = reward - now\nscore = 0.0\nfor _ in range(20):\n    score = score + choice.log_prob(choice.sample())\n"
        "loss = -(score * gain).mean() + F.mse_loss(now, reward)  # here",
        "gain = now - reward\nchosen = F.log_softmax(policy(body(state)), -1).gather(1, action[:, None]).squeeze(1)\n"
        "loss = (chosen * gain).mean() + gain.pow(2).mean()  # here",
        "gain = reward - now\nchosen = F.cross_entropy(policy(body(state)), action, reduction='none')\n"
        "loss = (chosen * gain).mean() + gain.pow(2).mean()  # here",
        "gain = 0.7 - now\nloss = -(choice.log_prob(action) * gain).mean() + F.mse_loss(now, reward)  # here",
    ],
)
def test_an_advantage_that_moves_the_critic(body: str) -> None:
    assert lines(body, "advantage-with-gradient") == [line_of(PROGRAM.format(body), "# here")]


@pytest.mark.parametrize(
    "body",
    [
        "gain = (reward - now).detach()\nloss = -(choice.log_prob(action) * gain).mean() + F.mse_loss(now, reward)",
        "loss = -(choice.log_prob(action) * (reward - now)).mean()",
        "scale = now.exp()\nloss = (scale * choice.log_prob(action)).mean() + F.mse_loss(now, reward)",
    ],
)
def test_a_constant_advantage_or_a_value_that_nothing_else_trains_is_none(body: str) -> None:
    assert lines(body, "advantage-with-gradient") == []


@pytest.mark.parametrize(("cleared", "told"), [("critic.zero_grad()", []), ("actor.zero_grad()", [10])])
def test_a_gradient_of_the_policys_loss_that_is_cleared_before_a_step_moves_nothing(
    cleared: str, told: list[int]
) -> None:
    source = f"""import torch
policy, value = torch.nn.Linear(3, 2), torch.nn.Linear(3, 1)
actor, critic = (torch.optim.SGD(one.parameters(), lr=0.1) for one in (policy, value))
state, reward = torch.rand(6, 3), torch.rand(6)
for _ in range(3):
    choice = torch.distributions.Categorical(logits=policy(state))
    gain = reward - value(state).squeeze(1)
    actor.zero_grad()
    critic.zero_grad()
    (-choice.log_prob(choice.sample()) * gain).mean().backward(retain_graph=True)
    actor.step()
    {cleared}
    gain.pow(2).mean().backward()
    critic.step()
"""
    answers = build(recorded(source)).answers
    assert [one.causes[0].line for one in answers if one.code == "advantage-with-gradient"] == told


def test_the_divergence_of_two_distributions_is_no_advantage() -> None:
    body = """
mine, its = (F.log_softmax(one(body(state)), -1) for one in (policy, torch.nn.Linear(4, 2)))
loss = (mine * (mine - its)).mean() + (mine - its).pow(2).mean()"""
    assert lines(body, "advantage-with-gradient") == []


def test_an_advantage_of_which_each_loss_has_a_view_of_its_own() -> None:
    body = (
        "base = value(body(state))\nadvantage = reward - base.view(-1)\n"
        "loss = -(choice.log_prob(action) * {}).mean() + F.mse_loss(base.view(-1), reward)  # here"
    )
    source = PROGRAM.format(body.format("advantage"))
    assert lines(body.format("advantage"), "advantage-with-gradient") == [line_of(source, "# here")]
    assert lines(body.format("advantage.detach()"), "advantage-with-gradient") == []
