"""A ``log_prob`` of a column under rows of parameters, or the other way round: each value under every distribution."""

from __future__ import annotations

import pytest
from torch.distributions import Distribution

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
from torch.distributions import Bernoulli, Categorical, Normal
net, policy = nn.Linear(3, 1), nn.Linear(3, 4)
states, gain = torch.rand(8, 3), torch.rand(8)
actions = torch.tensor(ACTIONS)  # actions
density = DENSITY
logarithm = density.log_prob(actions)  # paired
loss = LOSS
loss.backward()
"""
CLASSES, NUMBERS = "[[i % 4] for i in range(8)]", "[float(i) for i in range(8)]"


def found(actions: str, density: str, loss: str) -> list[list[str]]:
    source = PROGRAM.replace("ACTIONS", actions).replace("DENSITY", density).replace("LOSS", loss)
    places = {line_of(source, f"# {one}"): one for one in ("actions", "paired")}
    answers = [one for one in build(recorded(source)).answers if one.code == "paired-by-broadcast"]
    return [[places.get(cause.line, "") for cause in one.causes] for one in answers]


@pytest.mark.parametrize(
    ("actions", "density", "loss"),
    [
        (CLASSES, "Categorical(logits=policy(states))", "-(logarithm * gain).mean()"),
        (CLASSES, "Categorical(policy(states).softmax(-1))", "-(logarithm * (gain - gain.mean())).sum()"),
        ("[[float(i % 2)] for i in range(8)]", "Bernoulli(logits=net(states).squeeze(1))", "-logarithm.mean()"),
        ("[[float(i)] for i in range(8)]", "Normal(net(states).squeeze(-1), 1.0)", "-(logarithm * gain).mean()"),
    ],
)
def test_values_are_a_column(actions: str, density: str, loss: str) -> None:
    assert found(actions, density, loss) == [["paired", "actions"]]


def test_what_is_told_does_not_hang_on_whether_distributions_validate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call of a compiled function switches that off for the whole process (torch 2.13)."""
    monkeypatch.setattr(Distribution, "_validate_args", False)
    assert found("[[float(i)] for i in range(8)]", "Normal(net(states).squeeze(1), 1.0)", "-logarithm.mean()")


@pytest.mark.parametrize("loss", ["-logarithm.mean()", "-(logarithm.sum(-1) * gain).mean()"])
def test_parameters_are_a_column(loss: str) -> None:
    assert [one[0] for one in found(NUMBERS, "Normal(net(states), 1.0)", loss)] == ["paired"]


@pytest.mark.parametrize(
    ("actions", "density", "loss"),
    [
        ("[i % 4 for i in range(8)]", "Categorical(logits=policy(states))", "-(logarithm * gain).mean()"),
        (NUMBERS, "Normal(net(states).squeeze(1), 1.0)", "-logarithm.mean()"),
        (f"{NUMBERS})[:, None].mul(1", "Normal(net(states), 1.0)", "-logarithm.sum(-1).mean()"),
        (NUMBERS, "Normal(net(states).squeeze(1)[:, None], 1.0)", "-logarithm.mean()"),
        (NUMBERS, "Normal(net(states).reshape(8, 1), 1.0)", "-logarithm.logsumexp(0).mean()"),
        (NUMBERS, "Normal(net(states), 1.0)", "-logarithm.logsumexp(0).mean()"),
        (CLASSES, "Categorical(logits=policy(states)[:5])", "-logarithm.mean()"),
    ],
)
def test_the_same_shape_or_all_pairs_are_meant(actions: str, density: str, loss: str) -> None:
    assert found(actions, density, loss) == []
