"""Activations that a function is handed as a class, and calls: the line that hands them on is the one to change."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
from torch import nn
def mlp(sizes, activation=nn.ReLU):  # handed
    layers = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [nn.Linear(a, b), activation()]
    return nn.Sequential(*layers[:-1])
net = mlp([1, 8, 8, 1])
assert not any(isinstance(one, nn.ReLU) for one in net[:1])
for step in range(6):
    t = torch.rand(16, 1, requires_grad=True)
    (first,) = torch.autograd.grad(net(t).sum(), t, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), t, create_graph=True)
    (first + second).pow(2).mean().backward()
"""


@pytest.mark.parametrize(
    ("changes", "marked"),
    [
        ((), "# handed"),
        ((("activation=nn.ReLU", "activation=None"), ("1, 8, 8, 1])", "1, 8, 8, 1], nn.ReLU)  # here")), "# here"),
    ],
)
def test_the_line_that_hands_the_class_on_is_named(changes: tuple[tuple[str, str], ...], marked: str) -> None:
    source = SOURCE
    for change in changes:
        source = source.replace(*change)
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "second-derivative-zero"]
    assert [cause.line for cause in answer.causes] == [line_of(source, marked)]


def test_a_smooth_activation_that_is_handed_on_is_fine() -> None:
    source = SOURCE.replace("activation=nn.ReLU", "activation=nn.Tanh")
    assert "second-derivative-zero" not in {one.code for one in build(recorded(source)).answers}
