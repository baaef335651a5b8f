"""Hidden layers of equal units; and parameters that begin with one value and are weights of no product."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

LAYER = """
import torch, torch.nn as nn, torch.nn.functional as F
class Layer(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.mu = nn.Parameter(MEANS)
        self.rho = nn.Parameter(torch.full((n_out, n_in), -4.0))
    def forward(self, x): return F.linear(x, WEIGHT)
    def kl(self):
        sigma = F.softplus(self.rho)
        return (sigma ** 2 - sigma.log()).sum() + (self.mu ** 2).sum()
net = nn.ModuleList([Layer(3, 8), Layer(8, 1)])
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
x = torch.randn(16, 3)
for step in range(8):
    loss = net[1](torch.tanh(net[0](x))).pow(2).mean() + 0.001 * sum(layer.kl() for layer in net)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
RANDOM, EQUAL = "torch.randn(n_out, n_in)", "torch.full((n_out, n_in), 0.2)"


def said(weight: str, means: str = RANDOM) -> list[tuple[str, list[int]]]:
    answers = build(recorded(LAYER.replace("WEIGHT", weight).replace("MEANS", means))).answers
    return [(one.code, [cause.line for cause in one.causes]) for one in answers if one.code == "units-alike"]


@pytest.mark.parametrize(
    "weight",
    [
        pytest.param("torch.normal(self.mu, F.softplus(self.rho))", id="drawn about means that differ"),
        pytest.param("(self.mu + F.softplus(self.rho) * torch.randn_like(self.mu)).detach()", id="the same by hand"),
        pytest.param(
            "torch.distributions.Normal(self.mu, F.softplus(self.rho)).sample()", id="drawn by a distribution"
        ),
        pytest.param("self.mu", id="in a penalty alone"),
        pytest.param("self.mu + 0 * self.rho", id="beside weights that differ"),
    ],
)
def test_a_unit_is_alike_only_if_all_of_its_parameters_are(weight: str) -> None:
    assert not said(weight)


@pytest.mark.parametrize(
    ("weight", "lines"),
    [
        pytest.param("self.mu", [5], id="as they are"),
        pytest.param("0.5 * self.mu", [5], id="scaled"),
        pytest.param("self.mu.t().contiguous().t()", [5], id="turned about"),
        pytest.param("self.mu + 0 * self.rho", [6, 5], id="beside others that are alike as well"),
    ],
)
def test_weights_that_are_all_alike_are_reported(weight: str, lines: list[int]) -> None:
    assert said(weight, EQUAL) == [("units-alike", lines)]


SEQUENCE = """
import torch
from torch import nn
net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
for layer in (net[0], net[2]):
    nn.init.{init}
    nn.init.zeros_(layer.bias)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    {called}(torch.randn(8, 3)).sub(1).pow(2).mean().backward()
    optimizer.step()
"""


@pytest.mark.parametrize("called", ["net", "net.forward"])
def test_a_module_whose_forward_is_called_by_itself_is_made_of_the_same_layers(called: str) -> None:
    def codes(init: str) -> list[str]:
        return [one.code for one in build(recorded(SEQUENCE.format(init=init, called=called))).answers]

    assert "units-alike" in codes("constant_(layer.weight, 0.1)")
    assert "units-alike" not in codes("normal_(layer.weight)")
