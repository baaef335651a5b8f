"""A sample that leads back to its mean has a log-probability without a gradient by that mean."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
from torch.distributions import Independent, MultivariateNormal, Normal
torch.manual_seed(0)
mu, sd = torch.nn.Linear(4, 2), torch.nn.Linear(4, 2)
optimizer = torch.optim.Adam([*mu.parameters(), *sd.parameters()], lr=1e-2)
for step in range(6):
    states = torch.randn(8, 4)
    mean, std = mu(states), sd(states).exp()
    policy = Independent(Normal(mean, std), 1)
    action = policy.rsample()  # drawn
    score = policy.log_prob(action)  # scored
    reward = -(action.detach() - states[:, :2]).pow(2).sum(-1)
    loss = -(score * reward).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def found(source: str) -> list[int]:
    answers = [one for one in build(recorded(source)).answers if one.severity != "note"]
    assert {one.code for one in answers} <= {"score-of-tracked-sample"}
    assert all("mu.weight and mu.bias" in one.text for one in answers)
    return [cause.line for one in answers for cause in one.causes]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("policy.rsample()", "mean + std * torch.randn_like(std)"),
        ("Independent(Normal(mean, std), 1)", "MultivariateNormal(mean, scale_tril=torch.diag_embed(std))"),
        ("log_prob(action)", "log_prob(action.view(8, 2))"),
        ("Normal(mean, std)", "Normal(mean, std, validate_args=False)"),
    ],
    ids=["rsample", "by hand", "other distribution", "reshaped", "not validated"],
)
def test_the_line_that_draws_is_named_first(before: str, after: str) -> None:
    source = SOURCE.replace(before, after) if before else SOURCE
    assert found(source) == [line_of(source, "# drawn"), line_of(source, "# scored")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("rsample", "sample"),
        ("log_prob(action)", "log_prob(action.detach())"),
        ("-(action.detach()", "-(action"),
        ("-(score * reward).mean()", "(0.1 * score - (action - 1).pow(2).sum(-1)).mean()"),
        ("log_prob(action)", "log_prob(action.tanh())"),
        ("-(score * reward).mean()", "-(score * reward).mean() + mean.pow(2).mean()"),
    ],
    ids=["sample", "detached", "reward of the sample", "entropy beside a cost", "squashed", "another way"],
)
def test_other_ways_and_constants_are_fine(before: str, after: str) -> None:
    assert found(SOURCE.replace(before, after)) == []
