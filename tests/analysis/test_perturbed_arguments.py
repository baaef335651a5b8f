"""Attacks that move the data set along a gradient, through a detach() that copies nothing."""

from __future__ import annotations

import textwrap

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
net = torch.nn.Linear(3, 2)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
images, labels = torch.rand(8, 3), torch.zeros(8, dtype=torch.long)
def slope(x, y):
    loss = torch.nn.functional.cross_entropy(net(x), y)
    return torch.autograd.grad(loss, x)[0]
def attack(x, y):
{}
for epoch in range(3):
    for i in (0, 4):
        x, y = images[i : i + 4], labels[i : i + 4]
        adv = attack(x, y)
        opt.zero_grad()
        torch.nn.functional.cross_entropy(net(adv), y).backward()
        opt.step()
"""
HARMFUL = [
    """
    adv = x.detach()
    for _ in range(2):
        adv.requires_grad_(True)
        g = slope(adv, y)
        with torch.no_grad():
            adv += 0.1 * g.sign()
        adv = adv.detach()
    return adv
    """,
    """
    adv = x.detach().requires_grad_(True)
    torch.nn.functional.cross_entropy(net(adv), y).backward()
    adv.data += 0.1 * adv.grad.sign()
    return adv.detach()
    """,
    """
    adv = x.data
    adv.requires_grad_(True)
    step = 0.1 * slope(adv, y).sign()
    with torch.no_grad():
        adv.add_(step)
    return adv.detach()
    """,
]
FINE = [
    HARMFUL[0].replace("x.detach()", "x.detach().clone()"),
    HARMFUL[1].replace("adv.data += 0.1 * adv.grad.sign()", "adv = adv + 0.1 * adv.grad.sign()"),
    """
    adv = x.detach()
    adv += 0.01 * torch.randn_like(adv)
    return adv
    """,
    """
    adv = x.detach().requires_grad_(True)
    return (adv + 0.1 * slope(adv, y).sign()).detach()
    """,
]


def lines(body: str) -> list[int]:
    source = SOURCE.format(textwrap.indent(textwrap.dedent(body).strip(), "    "))
    answers = build(recorded(source)).answers
    return [one.causes[0].line for one in answers if one.code == "argument-written"]


@pytest.mark.parametrize("body", HARMFUL)
def test_where_the_attack_takes_the_data_without_a_copy_is_told(body: str) -> None:
    assert lines(body) == [line_of(SOURCE, "{}")]


@pytest.mark.parametrize("body", FINE)
def test_a_copy_a_new_tensor_or_noise_is_fine(body: str) -> None:
    assert lines(body) == []


def test_an_image_that_is_to_be_moved_is_fine() -> None:
    source = """
    import torch
    net = torch.nn.Linear(3, 2)
    image = torch.rand(4, 3, requires_grad=True)
    def improve(x):
        net(x).sum().backward()
        now = x.detach()
        now += 0.1 * x.grad
        x.grad = None
        return now
    for step in range(4):
        improve(image)
    """
    assert not [one for one in build(recorded(source)).answers if one.code == "argument-written"]
