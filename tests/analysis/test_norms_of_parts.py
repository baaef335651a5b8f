"""Gradient penalties that take norms of parts of each sample's gradient."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

CRITIC = """\
import torch
import torch.nn.functional as F
from torch import nn

critic = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(36, 1))
optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
for step in range(3):
    real, fake = torch.rand(5, 3, 8, 8), torch.rand(5, 3, 8, 8)
    share = torch.rand(5, 1, 1, 1)
    mixed = (share * real + (1 - share) * fake).requires_grad_()
    scores = critic(mixed)
    ASKED
    norms = NORM  # here
    loss = critic(fake).mean() - critic(real).mean() + 10 * PENALTY
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
ASKED = "(slope,) = torch.autograd.grad(scores, mixed, torch.ones_like(scores), create_graph=True)"
SUMMED = "(slope,) = torch.autograd.grad(scores.sum(), mixed, create_graph=True)"
PENALTY = "((norms - 1) ** 2).mean()"


def found(source: str) -> list[int]:
    answers = [one for one in build(recorded(source)).answers if one.code == "norm-of-parts"]
    return [cause.line for one in answers for cause in one.causes]


def program(norm: str, asked: str = ASKED, penalty: str = PENALTY) -> str:
    return CRITIC.replace("ASKED", asked).replace("NORM", norm).replace("PENALTY", penalty)


@pytest.mark.parametrize(
    ("norm", "asked", "penalty"),
    [
        ("slope.norm(2, dim=1)", ASKED, PENALTY),
        ("torch.norm(slope, p=2, dim=1)", SUMMED, "(1 - norms).square().mean()"),
        ("torch.linalg.vector_norm(slope, dim=(1, 2))", SUMMED, "F.relu(norms - 1).pow(2).mean()"),
        ("slope.pow(2).sum(dim=1)", ASKED, "((norms + 1e-12).sqrt() - 1).pow(2).mean()"),
        ("slope.norm(2, dim=1, keepdim=True)", ASKED, "F.mse_loss(norms, torch.ones_like(norms))"),
    ],
)
def test_norms_over_some_dimensions_of_a_sample_are_named(norm: str, asked: str, penalty: str) -> None:
    source = program(norm, asked, penalty)
    assert found(source) == [line_of(source, "# here")]


def test_images_of_one_channel_have_a_norm_for_each_pixel_too() -> None:
    source = (
        program("slope.norm(2, dim=1)").replace("nn.Conv2d(3,", "nn.Conv2d(1,").replace("(5, 3, 8, 8)", "(5, 1, 8, 8)")
    )
    assert found(source) == [line_of(source, "# here")]


@pytest.mark.parametrize(
    ("norm", "asked", "penalty"),
    [
        ("slope.flatten(1).norm(2, dim=1)", ASKED, PENALTY),
        ("slope.norm(2, dim=(1, 2, 3))", SUMMED, PENALTY),
        ("slope.pow(2).sum(dim=(1, 2, 3)).sqrt()", SUMMED, PENALTY),
        # (a norm that is only looked at, and one that is made small, not held to a number)
        ("slope.norm(2, dim=1)", ASKED, "slope.flatten(1).norm(dim=1).sub(1).square().mean()"),
        ("slope.norm(2, dim=1)", ASKED, "norms.mean()"),
        ("slope.norm(2, dim=1)", ASKED, "norms.sub(1).square().mean().detach()"),
        ("slope.norm(2, dim=1)", ASKED, "F.mse_loss(norms, torch.rand(5, 8, 8))"),
    ],
)
def test_norms_of_all_of_a_sample_or_to_no_number_are_fine(norm: str, asked: str, penalty: str) -> None:
    assert found(program(norm, asked, penalty)) == []


FIELD = """\
import torch
from torch import nn

field = nn.Sequential(nn.Linear(3, 16), nn.Softplus(), nn.Linear(16, 1))
for step in range(3):
    points = torch.rand(4, 7, 3, requires_grad=True)
    distances = field(points)
    (normals,) = torch.autograd.grad(VALUES, points, GIVEN, create_graph=True)
    ((normals.norm(dim=-1) - 1) ** 2).mean().backward()
"""


@pytest.mark.parametrize(
    ("values", "given"),
    [
        ("distances", "torch.ones_like(distances)"),
        ("distances.sum()", "None"),
        ("distances.squeeze(-1).mean(dim=1)", "torch.ones(4)"),
        ("distances.sum(dim=(1, 2)).sum()", "None"),
    ],
)
def test_points_that_have_values_of_their_own_have_norms_of_their_own(values: str, given: str) -> None:
    assert found(FIELD.replace("VALUES", values).replace("GIVEN", given)) == []
