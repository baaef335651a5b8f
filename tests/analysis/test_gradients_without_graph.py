"""A term of the loss that a gradient without a graph was made into: found where it is added, and only there."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
import torch.nn.functional as F
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
x, y = torch.randn(5, 2, requires_grad=True), torch.randn(5, 1)
plain = F.mse_loss(net(x), y)
"""
TERMS = {
    "forces": "loss = plain + (g + 1).pow(2).mean()",
    "a gradient penalty": "loss = plain - -10 * ((g.norm(2, dim=1) - 1) ** 2).mean()",
    "added in place": "loss = plain * 1\nloss += g.norm()",
}
MEANT = {
    "a fast sign attack": "loss = F.mse_loss(net(x + 0.1 * g.sign()), y)",
    "a weight of a loss": "loss = plain * g.norm()",
    "a step of an inner loop": "loss = (x - 0.1 * g).pow(2).sum() + plain",
    "a sum that is only shown": "print((plain + g.norm()).item())\nloss = plain * 1",
}


def found(lines: str, options: str = "retain_graph=True") -> list[tuple[int, ...]]:
    source = f"{HEAD}(g,) = torch.autograd.grad(plain, x, {options})\n{lines}\nloss.backward()\n"
    answers = [answer for answer in build(recorded(source)).answers if answer.code == "term-without-gradient"]
    at = line_of(source, "autograd.grad")
    assert all([cause.line for cause in answer.causes] == [at] for answer in answers)
    return [(answer.place.line,) for answer in answers if answer.place is not None]


@pytest.mark.parametrize("term", TERMS)
def test_it_is_told_at_the_gradients_line(term: str) -> None:
    assert len(found(TERMS[term])) == 1
    assert found(TERMS[term], "create_graph=True") == []


@pytest.mark.parametrize("use", MEANT)
def test_other_uses_of_a_gradient_are_meant(use: str) -> None:
    assert found(MEANT[use]) == []
