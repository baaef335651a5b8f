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
        "z = policy.sample()\nloss = critic(z.detach()).mean() + mean.mean()",
        "z = policy.sample()\nloss = critic(z).mean()",
        "with torch.no_grad():\n    z = Normal(actor(x), 1.0).sample()\nloss = critic(z).mean() + mean.mean()",
        "v = torch.bernoulli(F.linear(x, weight, bias).sigmoid())\nloss = (v @ bias).mean() - (v @ weight).mean()",
    ],
)
def test_samples_that_are_to_have_none_are_left_alone(body: str) -> None:
    assert lines(body) == []
