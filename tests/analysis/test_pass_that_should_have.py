"""Of several passes that a leaf gets nothing from, the one is told after which its own optimizer steps."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

GAN = """
import torch
from torch import nn
maker, critic = nn.Linear(4, 2), nn.Linear(2, 1)
makes, judges = (torch.optim.{0}(net.parameters(), 0.01) for net in (maker, critic))
for it in range(4):
    fake = maker(torch.randn(8, 4))
    judges.zero_grad()
    (critic(torch.randn(8, 2)).mean() - critic(fake.detach()).mean()).backward()
    judges.step()
    makes.zero_grad()
    score = critic(fake.detach()).mean()  # wrong
    score.backward()
    makes.step()
"""


@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_the_detach_of_the_generators_own_loss_is_named(optimizer: str) -> None:
    source = GAN.format(optimizer)
    (answer,) = (one for one in build(recorded(source)).answers if one.code == "leaf-unreached")
    assert [cause.line for cause in answer.causes] == [line_of(source, "# wrong")]


def test_a_generator_that_learns_is_quiet() -> None:
    source = GAN.format("Adam").replace("score = critic(fake.detach())", "score = critic(fake)")
    assert "leaf-unreached" not in [one.code for one in build(recorded(source)).answers]
