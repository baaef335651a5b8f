"""Weights that are multiplied in their own memory by a mask that is drawn anew before each step."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """\
import torch
import torch.nn.functional as F

fixed = torch.rand(4, 6) > 0.5
generator = torch.Generator()

class Layer(torch.nn.Linear):
    def forward(self, x):
        weight = self.weight
        {mask}
        {write}
        return F.linear(x, weight, self.bias)

net = torch.nn.Sequential(Layer(6, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(10):
    x = torch.randn(8, 6)
    loss = net(x).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    {before}
    optimizer.step()
"""
DRAW = "mask = (torch.rand_like(weight) > 0.3).float()"


def masked(mask: str, write: str, before: str = "pass") -> tuple[list[int], int]:
    source = SOURCE.format(mask=mask, write=write, before=before)
    answers = build(recorded(source)).answers
    found = [one.causes[0].line for one in answers if one.code == "weights-overwritten" and "masks" in one.text]
    return found, line_of(source, write)


@pytest.mark.parametrize(
    ("mask", "write"),
    [
        (DRAW, "self.weight.data.mul_(mask)"),
        (DRAW, "self.weight.data *= mask"),
        (DRAW, "self.weight.data = self.weight.data * mask"),
        ("mask = torch.empty_like(weight).bernoulli_(0.7)", "weight.data.mul_(mask).div_(0.7)"),
        ("mask = torch.rand(4, 6) < 0.3", "weight.data.masked_fill_(mask, 0.0)"),
        ("pass", "weight.data.copy_(F.dropout(weight.data, 0.3))"),
        ("mask = torch.bernoulli(torch.full((4, 1), 0.7))", "weight.detach().mul_(mask)"),
    ],
)
def test_the_line_that_masks_the_parameter_is_named(mask: str, write: str):
    lines, expected = masked(mask, write)
    assert lines == [expected]


@pytest.mark.parametrize(
    ("mask", "write", "before"),
    [
        (DRAW, "weight = weight * mask", "pass"),
        ("mask = fixed", "weight.data.mul_(mask)", "pass"),
        ("mask = weight.detach().abs() > 0.1", "weight.data.mul_(mask)", "pass"),
        ("mask = weight.detach().norm().clamp(max=1.0)", "weight.data.mul_(mask)", "pass"),
        ("mask = (torch.rand_like(weight) > 0.3).float()", "weight.data.add_(mask, alpha=0.01)", "pass"),
        ("torch.manual_seed(3); mask = torch.rand_like(weight)", "weight.data.mul_(mask > 0.3)", "pass"),
        (
            "mask = torch.rand(4, 6, generator=generator.manual_seed(3))",
            "weight.data.mul_(mask > 0.3)",
            "pass",
        ),
        (
            "mask = torch.rand_like(weight) > 0.3; self.kept = weight.detach().clone()",
            "weight.data.mul_(mask)",
            "net[0].weight.data.copy_(net[0].kept)",
        ),
    ],
)
def test_products_fixed_masks_and_values_that_come_back_are_fine(mask: str, write: str, before: str):
    assert masked(mask, write, before)[0] == []
