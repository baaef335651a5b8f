"""Samples without a graph that a loss depends on, and samples that are meant to have none."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, Normal, kl_divergence
actor, critic, weight = torch.nn.Linear(3, 2), torch.nn.Linear(2, 1), torch.nn.Parameter(torch.ones(2, 3))
bias, alpha = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.ones(()))
x = torch.rand(8, 3)
mean = actor(x)
policy = Normal(mean, 1.0)
{}
loss.backward()
"""


def lines(body: str) -> list[int]:
    answers = build(recorded(PROGRAM.format(body))).answers
    return [cause.line for one in answers if one.code == "sample-without-gradient" for cause in one.causes]


@pytest.mark.parametrize(
    "body",
    [
        "z = policy.sample()  # here\nloss = critic(z).pow(2).mean() + kl_divergence(policy, Normal(0.0, 1.0)).mean()",
        "z = policy.sample()  # here\nloss = (alpha * policy.log_prob(z).sum(1) - critic(z).squeeze(1)).mean()",
        "z = torch.normal(mean, 1.0)  # here\nloss = critic(z.tanh()).mean() + 0.1 * mean.pow(2).mean()",
        "p = mean.sigmoid()\nkeep = torch.bernoulli(p)  # here\nloss = critic(keep * x[:, :2]).mean() + p.sum()",
        "p = mean.sigmoid()\nkeep = Bernoulli(p).sample()  # here\nloss = critic(keep).mean() + p.sum()",
    ],
)
def test_the_line_that_draws_is_the_cause(body: str) -> None:
    assert lines(body) == [line_of(PROGRAM.format(body), "# here")]


@pytest.mark.parametrize(
    "body",
    [
        "z = policy.rsample()\nloss = critic(z).mean() + mean.pow(2).mean()",
        "z = policy.sample()\ngain = -z.pow(2).sum(1)\nloss = (policy.log_prob(z).sum(1) * gain + (critic(x[:, :2])"
        ".squeeze(1) - gain).pow(2)).mean()",
        "z = policy.sample()\nlog = -(z - mean).pow(2).sum(1)\nloss = (log * critic(z).squeeze(1)).mean()",
        "p = mean.sigmoid()\nb = torch.bernoulli(p)\nz = b + p - p.detach()\nloss = critic(z).mean() + p.sum()",
        "p = mean.sigmoid()\nb = torch.bernoulli(p)\nz = b + (p - p.detach())\nloss = critic(z).mean() + p.sum()",
        "p = mean.sigmoid()\nb = torch.bernoulli(p)\nz = (p - p.detach()) + b\nloss = critic(z).mean() + p.sum()",
        "z = policy.sample()\nloss = critic(z.detach()).mean() + mean.mean()",
        "z = policy.sample()\nloss = critic(z).mean()",
        "with torch.no_grad():\n    z = Normal(actor(x), 1.0).sample()\nloss = critic(z).mean() + mean.mean()",
        "v = torch.bernoulli(F.linear(x, weight, bias).sigmoid())\nloss = (v @ bias).mean() - (v @ weight).mean()",
    ],
)
def test_samples_that_are_to_have_none_are_left_alone(body: str) -> None:
    assert lines(body) == []


ACTIONS = """
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical, OneHotCategorical
trunk, actor, critic, world = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(7, 1), nn.Linear(7, 3).requires_grad_(False)
table, deep = torch.rand(4, 4), nn.Linear(4, 4)
optimizer = torch.optim.SGD([*actor.parameters(), *deep.parameters(), *trunk.parameters()], lr=0.1)
of_critic = torch.optim.SGD(critic.parameters(), lr=0.1)
for step in range(3):
    x = torch.rand(8, 3)
    logits = deep(actor(x).tanh())
    policy = Categorical(logits=logits)
    {}
    optimizer.zero_grad(); of_critic.zero_grad()
    loss.backward()
    optimizer.step()
    {}
"""
GAIN = "gain = world(torch.cat([x, code], 1)).sum(1)\n    loss = -(gain + 0.1 * policy.entropy()).mean()"


def action_lines(body: str, after: str = "") -> tuple[list[int], str]:
    source = ACTIONS.format(body, after)
    answers = build(recorded(source)).answers
    return [line for one in answers if one.code == "sample-without-gradient" for line in (one.causes[0].line,)], source


@pytest.mark.parametrize(
    "draws",
    [
        "code = F.one_hot(policy.sample(), 4).float()  # here",
        "code = torch.eye(4)[policy.sample()]  # here",
        "a = policy.sample()  # here\n    code = table[a]",
        "a = torch.multinomial(logits.softmax(1), 1)  # here\n    code = F.one_hot(a.squeeze(1), 4).to(x.dtype)",
        "a = policy.sample()  # here\n    code = torch.zeros(8, 4).scatter(1, a.unsqueeze(1), 1.0)",
        "a = policy.sample()  # here\n    code = torch.zeros(8, 4)\n    code.scatter_(1, a[:, None], 1.0)",
        "a = policy.sample()  # here\n    code = torch.zeros(8, 4)\n    code[torch.arange(8), a] = 1",
        "code = OneHotCategorical(logits=logits).sample()  # here",
    ],
)
@pytest.mark.parametrize("gain", [GAIN, GAIN.replace("world(", "critic(")], ids=["frozen", "trained elsewhere"])
def test_the_line_that_draws_an_action_is_the_cause(draws: str, gain: str) -> None:
    found, source = action_lines(f"{draws}\n    {gain}")
    assert found == [line_of(source, "# here")]


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("a = policy.sample()\n    gain = world(torch.cat([x, F.one_hot(a, 4).float()], 1)).sum(1)\n"
         "    loss = -(policy.log_prob(a) * gain + 0.1 * policy.entropy()).mean()", ""),
        ("a = policy.sample()\n    gain = world(torch.cat([x, F.one_hot(a, 4).float()], 1)).sum(1)\n"
         "    loss = (F.cross_entropy(logits, a, reduction='none') * gain - 0.1 * policy.entropy()).mean()", ""),
        ("hard = F.one_hot(policy.sample(), 4).float()\n    code = hard + policy.probs - policy.probs.detach()\n"
         f"    {GAIN}", ""),
        ("a = policy.sample()\n    code = F.one_hot(a, 4).float()\n    q = critic(torch.cat([x, code], 1)).squeeze(1)\n"
         "    loss = (q - 1).pow(2).mean() + F.cross_entropy(logits, torch.zeros(8).long())", "of_critic.step()"),
        ("code = F.one_hot(policy.sample(), 4).float()\n    h = trunk(x)\n"
         "    loss = (world(torch.cat([x, code.detach()], 1)).sum(1) * 0).mean() + h.mean() + policy.entropy().mean()",
         ""),
        ("a = policy.sample()\n    share = F.one_hot(a, 4).float().mean(0)\n"
         "    loss = (share * policy.probs.mean(0)).sum() - policy.entropy().mean()", ""),
        ("with torch.no_grad():\n        code = F.one_hot(Categorical(logits=actor(x)).sample(), 4).float()\n"
         f"    {GAIN}", ""),
        ("a = policy.sample()\n    picked = logits.gather(1, a[:, None]).squeeze(1)\n"
         "    loss = (picked - world(torch.cat([x, table[a]], 1)).sum(1)).pow(2).mean() - policy.entropy().mean()", ""),
        ("a = policy.sample()\n    print(world(torch.cat([x, table[a]], 1)).sum().item())\n"
         "    loss = F.cross_entropy(logits, torch.zeros(8).long())", ""),
    ],
    ids=["score", "cross entropy", "straight through", "a critic's data", "detached", "load", "no_grad", "q", "logged"],
)  # fmt: skip
def test_actions_that_are_to_have_no_gradient_are_left_alone(body: str, after: str) -> None:
    assert action_lines(body, after)[0] == []


def test_a_divergence_at_its_least_value_is_not_blamed_for_what_the_sample_cut_off() -> None:
    source = """
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
class Layer(nn.Module):
    def __init__(self, n, m):
        super().__init__()
        self.mu, self.rho = nn.Parameter(torch.zeros(m, n)), nn.Parameter(torch.full((m, n), -1.0))
    def forward(self, x):
        posterior = Normal(self.mu, self.rho.exp())
        self.kl = kl_divergence(posterior, Normal(0.0, 1.0)).sum()
        return x @ posterior.sample().T  # here
model = nn.Sequential(Layer(3, 4), nn.Tanh(), Layer(4, 1))
for step in range(3):
    loss = model(torch.ones(5, 3)).pow(2).mean() + model[0].kl + model[2].kl
    loss.backward()
"""
    answers = [one for one in build(recorded(source)).answers if one.severity != "note"]
    assert [one.code for one in answers] == ["sample-without-gradient"]
    assert [cause.line for cause in answers[0].causes] == [line_of(source, "# here")]
    assert "model.* (4)" in answers[0].text


ROLLED = """
import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence
encode, cell, decode = torch.nn.Linear(8, 4), torch.nn.GRUCell(2, 5), torch.nn.Linear(2, 3)
def draw(dist):
    return dist.sample()  # here
for step in range(2):
    h, x, loss = torch.zeros(6, 5), torch.rand(6, 3), 0.0
    for _ in range(4):
        mean, spread = encode(torch.cat([x, h], 1)).chunk(2, 1)
        dist = Normal(mean, F.softplus(spread))
        z = draw(dist)
        h = cell(z, h)
        {}
    loss.backward()
"""


@pytest.mark.parametrize(
    "body",
    [
        "loss = loss + F.mse_loss(decode(z), x) + kl_divergence(dist, Normal(0.0, 1.0)).mean()",
        "loss = loss + (decode(z.tanh()) - x).abs().mean() - dist.entropy().mean()",
        "loss = loss + decode(z).pow(2).mean() + 0.1 * mean.pow(2).mean()",
        "loss = loss + decode(h[:, :2]).pow(2).mean() - dist.entropy().mean()",
        "loss = loss - Normal(decode(z), 1.0).log_prob(x).mean() - dist.entropy().mean()",
    ],
)
def test_a_model_that_goes_on_from_its_samples_and_is_trained_by_what_they_become(body: str) -> None:
    source = ROLLED.format(body)
    found = [one for one in build(recorded(source)).answers if one.code == "sample-without-gradient"]
    assert [cause.line for one in found for cause in one.causes] == [line_of(source, "# here")]
    drawn = build(recorded(source.replace(".sample()", ".rsample()"))).answers
    assert [one for one in drawn if one.code == "sample-without-gradient"] == []


@pytest.mark.parametrize(
    "body",
    [
        "loss = loss - dist.log_prob(x[:, :2]).mean()",
        "loss = loss - (dist.log_prob(z).sum(1) * decode(z).pow(2).sum(1)).mean() - dist.entropy().mean()",
        "loss = loss + F.mse_loss(decode(z + mean - mean.detach()), x) - dist.entropy().mean()",
    ],
)
def test_a_model_that_goes_on_from_its_samples_on_purpose(body: str) -> None:
    found = build(recorded(ROLLED.format(body))).answers
    assert [one for one in found if one.code == "sample-without-gradient"] == []
