"""Updates by gradients that go into a copy of the weights and stay there."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

VECTOR = """\
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters
net, lr = torch.nn.Linear(3, 2), 0.1
losses = []
def step(x):
    loss = net(x).pow(2).mean()
    grads = torch.autograd.grad(loss, list(net.parameters()))
    flat = torch.cat([g.reshape(-1) for g in grads])
    with torch.no_grad():
        theta = parameters_to_vector(net.parameters())
        {}
    return loss.item()
for x in torch.randn(4, 5, 3):
    losses.append(step(x))
"""
EACH = """\
import torch
net, lr = torch.nn.Linear(3, 2), 0.1
opt = torch.optim.SGD(net.parameters(), lr=0.1)
def step(x):
    net.zero_grad()
    net(x).pow(2).mean().backward()
    for p in net.parameters():
        new = p.detach().clone()
        {}
for x in torch.randn(4, 5, 3):
    step(x)
"""


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [one.causes[0].line for one in answers if one.code == "update-lost"]


@pytest.mark.parametrize(
    "body",
    [
        "theta -= lr * flat",
        "theta = theta - lr * flat / flat.norm()",
        "theta.sub_(flat, alpha=lr)",
        "theta -= lr * flat; losses.append(theta.norm().item())",
        "theta -= lr * flat; theta -= lr * 0.1 * flat",
    ],
)
def test_an_update_that_is_not_put_back_is_lost(body: str) -> None:
    assert lines(VECTOR.format(body.replace("; ", "\n        ")))[0] == 11


def test_so_is_one_of_a_clone_of_each_weight() -> None:
    assert lines(EACH.format("new -= lr * p.grad")) == [line_of(EACH, "{}")]


@pytest.mark.parametrize(
    "body",
    [
        "theta -= lr * flat; vector_to_parameters(theta, net.parameters())",
        "vector_to_parameters(theta - lr * flat, net.parameters())",
        "theta -= lr * flat; losses.append(theta)",
        "theta -= lr * flat; net.weight.copy_(theta[:6].view(2, 3))",
        "theta += 0.1 * torch.randn_like(theta)",
        "theta -= theta.mean()",
        "losses.append((theta @ flat).item())",
    ],
)
def test_what_is_put_back_kept_or_no_update_is_fine(body: str) -> None:
    assert lines(VECTOR.format(body.replace("; ", "\n        "))) == []


@pytest.mark.parametrize(
    "body",
    [
        "new -= lr * p.grad; p.data.copy_(new)",
        "new -= lr * p.grad; p.data = new",
        "new -= lr * p.grad; opt.step()",
    ],
)
def test_weights_that_something_writes_are_fine(body: str) -> None:
    assert lines(EACH.format(body.replace("; ", "\n        "))) == []
