"""Batch norms that learn from one batch at moved weights, too, and rounds in which that is no second time."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
from torch import nn
net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
class Sharp:
    @torch.no_grad()
    def climb(self):
        self.home = [p.detach().clone() for p in net.parameters()]
        for p in net.parameters():
            p.add_(p.grad, alpha=0.1)
    @torch.no_grad()
    def back(self):
        for p, home in zip(net.parameters(), self.home):
            p.copy_(home)
sharp = Sharp()
for step in range(4):
    x = torch.randn(8, 3)
    net(x).pow(2).mean().backward()
    sharp.climb()
    optimizer.zero_grad()
    out = net(x)  # here
    out.pow(2).mean().backward()
    sharp.back()
    optimizer.step()
    optimizer.zero_grad()
"""


def said(*changes: tuple[str, str]) -> tuple[list[int], str]:
    source = SOURCE
    for change in changes:
        assert change[0] in source
        source = source.replace(*change)
    answers = build(recorded(source)).answers
    return [one.causes[0].line for one in answers if one.code == "norm-learns-twice"], source


@pytest.mark.parametrize(
    "changes",
    [
        (),
        (("p.copy_(home)", "p.data = home"),),
        (("p.copy_(home)", "p.data.copy_(home.data)"),),
        (("p.add_(p.grad, alpha=0.1)", "p.data.add_(p.grad, alpha=0.1)"),),
        (
            (
                "for p in net.parameters():\n            p.add_(p.grad, alpha=0.1)",
                "ps = list(net.parameters())\n        torch._foreach_add_(ps, [p.grad for p in ps], alpha=0.1)",
            ),
        ),
        (
            ("    out = net(x)  # here\n    out.pow", "    net(x).pow"),
            ("mean().backward()\n    sharp.back", "mean().backward()  # here\n    sharp.back"),
        ),
    ],
)
def test_the_second_run_of_the_model_is_the_cause(changes: tuple[tuple[str, str], ...]) -> None:
    lines, source = said(*changes)
    assert lines == [line_of(source, "# here")]


@pytest.mark.parametrize(
    "changes",
    [
        (("out = net(x)  # here", "net[1].momentum = 0.0; out = net(x); net[1].momentum = 0.1"),),
        (("out = net(x)  # here", "net[1].eval(); out = net(x); net[1].train()"),),
        (("out = net(x)  # here", "out = net(torch.randn(8, 3))"),),  # (first-order meta-learning)
        (("    sharp.back()\n", ""),),
        (("    sharp.climb()\n", ""), ("    sharp.back()\n", "")),
        (
            (
                "    sharp.climb()\n    optimizer.zero_grad()\n",
                "    optimizer.step()\n    sharp.climb()\n    optimizer.zero_grad()\n",
            ),
        ),
        (("nn.BatchNorm1d(4)", "nn.LayerNorm(4)"),),
        (("range(4)", "range(2)"),),
    ],
)
def test_what_learns_once_or_from_another_batch(changes: tuple[tuple[str, str], ...]) -> None:
    assert said(*changes)[0] == []


BY_HAND = """
import torch
from torch import nn
x = torch.randn(8, 3)
net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
for step in range(6):
    net.zero_grad()
    net(x).pow(2).mean().backward()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(p.grad, alpha=-0.1)
            p.mul_(0.999)
other = nn.Linear(3, 1)
optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    other(x).pow(2).mean().backward()
    optimizer.step()
"""


@pytest.mark.parametrize("later", ["other", "net"])
def test_a_model_that_is_trained_by_hand_is_not_put_back_before_a_later_step(later: str) -> None:
    source = BY_HAND.replace("other.parameters()", f"{later}.parameters()").replace("other(x)", f"{later}(x)")
    assert "norm-learns-twice" not in {one.code for one in build(recorded(source)).answers}
