"""Learned weights that went into a loss as plain numbers: their only gradient is that of a term of their own."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

WEIGHED = """
import math
import torch
net = torch.nn.Linear(3, 2)
class Weigher(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scales = torch.nn.Parameter(torch.full((2,), 0.5))
    def weights(self):
        {first}
        return {weights}
    def forward(self, losses):
        weights = self.weights()
        total = sum(weights[i] * losses[i] for i in range(2))
        return total + {own}
weigher = Weigher()
optimizer = torch.optim.SGD([*net.parameters(), {held}], lr=0.1)
for step in range(3):
    out = net(torch.rand(4, 3))
    losses = [out[:, 0].pow(2).mean(), out[:, 1].abs().mean()]
    loss = weigher(losses)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(weigher.scales.tolist(), loss.item())
"""
OWN, HELD = "self.scales.sum() / 2", "*weigher.parameters()"


def lines(first: str, weights: str, own: str = OWN, held: str = HELD) -> list[str]:
    source = WEIGHED.format(first=first, weights=weights, own=own, held=held)
    answers = [one for one in build(recorded(source)).answers if one.code == "weight-as-number"]
    text = source.strip().split("\n")
    return [text[cause.line - 1].strip() for one in answers for cause in one.causes]


@pytest.mark.parametrize(
    ("first", "weights"),
    [
        ("taken = [math.exp(one) for one in self.scales]", "taken"),
        ("taken = {i: 1 / float(self.scales[i].exp()) for i in range(2)}", "taken"),
        ("taken = torch.exp(-self.scales).tolist()", "taken"),
        ("taken = self.scales.detach().exp().numpy()", "[float(one) for one in taken]"),
        ("first, second = self.scales[0].item(), self.scales[1].item()", "first, second"),
        ("taken = [one.item() for one in self.scales]", "torch.tensor(taken)"),
    ],
)
def test_the_line_that_takes_the_values_out_is_the_cause(first: str, weights: str) -> None:
    assert lines(first, weights) == [first]


@pytest.mark.parametrize(
    ("first", "weights", "own", "held"),
    [
        ("taken = [torch.exp(one) for one in self.scales]", "taken", OWN, HELD),
        ("taken = [math.exp(one) for one in (0.5, 0.5)]", "taken", OWN, HELD),
        ("shown = [math.exp(one) for one in self.scales]", "(1.0, 2.0)", OWN, HELD),
        ("taken = [math.exp(one) for one in self.scales]", "taken", OWN, ""),
        ("taken = [math.exp(one) for one in self.scales]", "taken", "(self.scales * losses[0].detach()).sum()", HELD),
        ("taken = [math.exp(one) for one in self.scales]", "taken", "self.scales.sum() * (losses[1].item() - 1)", HELD),
        ("taken = [math.exp(one) for one in self.scales]", "taken", "(self.scales * torch.stack(losses)).sum()", HELD),
        ("limit = 2.0 if self.scales[0].item() > 1 else 1.0", "(limit, 1.0)", OWN, HELD),
    ],
)
def test_tensors_what_is_shown_and_gradients_that_tell_of_the_losses_are_none(
    first: str, weights: str, own: str, held: str
) -> None:
    assert lines(first, weights, own, held) == []
