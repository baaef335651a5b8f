"""Terms that a network computed under no_grad from what the loss is to train."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

ACTOR = """import torch
from torch import nn
actor, critic = nn.Linear(3, 4), nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1))
opt = torch.optim.Adam(actor.parameters())
for step in range(3):
    obs, seen = torch.ones(6, 3), torch.ones(6, 2)
    mean, scale = actor(obs).chunk(2, dim=1)
    dist = torch.distributions.Normal(mean, scale.exp())
    action = dist.rsample()
    likely = dist.log_prob(action).sum(1, keepdim=True)
    with torch.no_grad():  # cuts
        value = critic(torch.cat([obs, action], 1))
    loss = (0.2 * likely - value).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
"""


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "term-without-gradient" for cause in one.causes]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("(0.2 * likely - value).mean()", "(-value + 0.2 * likely).mean()"),
        ("(0.2 * likely - value).mean()", "-(value - 0.2 * likely).mean()"),
        ("torch.no_grad()", "torch.inference_mode()"),
        ("torch.no_grad()", "torch.set_grad_enabled(False)"),
    ],
)
def test_the_block_around_the_other_network_is_the_cause(old: str, new: str) -> None:
    source = ACTOR.replace(old, new)
    assert lines(source) == [line_of(source, "# cuts")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("torch.no_grad()", "torch.enable_grad()"),
        ("[obs, action]", "[obs, seen]"),  # of the batch: a constant
        ("[obs, action]", "[obs, dist.sample()]"),
        ("0.2 * likely - value", "-likely * value"),  # a weight
        ("critic(torch.cat([obs, action], 1))", "action.sum(1, keepdim=True)"),  # no network: a baseline
        ("critic(torch.cat([obs, action], 1))", "critic(torch.cat([obs, action.detach()], 1))"),
    ],
)
def test_constants_and_weights_are_none(old: str, new: str) -> None:
    assert old in ACTOR
    assert lines(ACTOR.replace(old, new)) == []
