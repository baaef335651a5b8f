"""Sums over all that a normalisation gave, which are constants, and sums of what it gave that are none."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
import torch.nn.functional as F
from torch import nn
torch.manual_seed(0)
body = nn.Linear(4, 8)
norm, plain = nn.BatchNorm1d(8), nn.BatchNorm1d(8, affine=False)
layer, group = nn.LayerNorm(8, elementwise_affine=False), nn.GroupNorm(2, 8, affine=False)
instance = nn.InstanceNorm1d(8)
other = nn.InstanceNorm1d(8, affine=True, track_running_stats=True)
optimizer = torch.optim.SGD([*body.parameters(), *norm.parameters()], lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    h = body(torch.randn(16, 4))
    {}
    loss.backward()
    optimizer.step()
"""


def said(source: str) -> list[int]:
    return [one.causes[0].line for one in build(recorded(source)).answers if one.code == "sum-of-normalized"]


@pytest.mark.parametrize(
    "loss",
    [
        "loss = norm(h).mean()  # here",
        "loss = -plain(h).sum()  # here",
        "loss = plain(h.view(16, 8, 1)).flatten(1).mean(1).mean()  # here",
        "g = layer(h)  # here\n    loss = g.sum()",
        "loss = group(h).sum(1).mean()  # here",
        "loss = instance(h.view(16, 8, 1).expand(16, 8, 4) * torch.randn(4)).mean()  # here",
        "loss = h.softmax(-1).mean()  # here",
        "loss = h.pow(2).mean() + F.softmax(h, dim=1).sum(1).mean()  # here",
        "r = h.sum(1)\n    r = (r - r.mean()) / (r.std() + 1e-6)  # here\n    loss = -r.mean()",
        "r = h - torch.mean(h)  # here\n    loss = (r / 2.0).sum()",
        "r = h.view(-1)\n    r = (r - r.mean()).div(r.std().detach())  # here\n    loss = r.view(2, -1).mean(0).mean()",
        "loss = plain(h).mean() - plain(body(torch.randn(16, 4))).mean()  # here",
    ],
)
def test_the_line_that_normalises_is_the_cause(loss: str) -> None:
    source = HEAD.format(loss)
    assert said(source) == [line_of(source, "# here")]


@pytest.mark.parametrize(
    "loss",
    [
        "loss = norm(h).pow(2).mean()",
        "norm.eval()\n    loss = norm(h).mean()",
        "other.eval()\n    loss = other(h.view(16, 8, 1)).mean()",
        "loss = nn.LayerNorm(8)(h).mean()",
        "loss = F.layer_norm(h, (8,), torch.rand(8)).mean()",
        "loss = (plain(h) * torch.randn(8)).mean()",
        "both = plain(h)\n    loss = both[:8].mean() - both[8:].mean()",
        "loss = h.log_softmax(-1).mean()",
        "loss = h.softmax(-1).amax(-1).mean()",
        "loss = F.gelu(plain(h)).mean()",
        "r = h.sum(1)\n    r = (r - r.mean()) / (r.std() + 1e-6)\n    loss = (r * torch.randn(16)).mean()",
        "r = h.sum(1)\n    r = (r - r.mean()) / r.abs()\n    loss = r.mean()",
        "loss = (h - torch.randn(16, 8).mean()).mean()",
        "loss = (h - body(torch.randn(16, 4)).mean()).mean()",
        "loss = (h - h.mean()).pow(2).mean()",
        "loss = (h - h.mean(0)).abs().mean()",
        "i = h.softmax(-1).sum(0)\n    loss = i.var() / i.mean() ** 2",
        "w = h.softmax(-1)\n    loss = w.mean() + (w * torch.randn(8)).sum()",
        "loss = h.pow(2).mean()\n    print(h.softmax(-1).sum(-1).mean().item())",
    ],
)
def test_what_is_no_constant_or_in_no_loss(loss: str) -> None:
    assert said(HEAD.format(loss)) == []


def test_passes_without_steps_are_looks_at_gradients() -> None:
    assert said(HEAD.format("loss = norm(h).mean()").replace("optimizer.step()", "pass")) == []
