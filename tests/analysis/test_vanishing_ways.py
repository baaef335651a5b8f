"""Gradients that vanish through many calls of sigmoid or tanh."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

DEEP = """
import torch
from torch import nn
torch.manual_seed(0)
net = nn.ModuleList([nn.Linear(8, 8) for _ in range(DEPTH)])
acts = nn.ModuleList([nn.Sigmoid() for _ in net])  # makes
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(5):
    x = torch.randn(16, 8)
    for layer, act in zip(net, acts):
        x = act(layer(x))  # calls
    optimizer.zero_grad()
    LOSS.backward()
    optimizer.step()
"""


def told(call: str = "act(layer(x))", depth: int = 24, loss: str = "x.pow(2).mean()") -> list[Answer]:
    answers = build(recorded(source(call, depth, loss))).answers
    return [one for one in answers if one.code == "gradient-vanishes"]


def source(call: str = "act(layer(x))", depth: int = 24, loss: str = "x.pow(2).mean()") -> str:
    return DEEP.replace("DEPTH", str(depth)).replace("act(layer(x))", call).replace("LOSS", loss)


@pytest.mark.parametrize(
    ("call", "mark"),
    [
        ("act(layer(x))", "# makes"),
        ("torch.sigmoid(layer(x))", "# calls"),
        ("layer(x).sigmoid()", "# calls"),
        ("torch.tanh(9 * layer(x) + 9)", "# calls"),
    ],
)
def test_the_activation_is_named(call: str, mark: str) -> None:
    (answer,) = told(call)
    assert [cause.line for cause in answer.causes] == [line_of(source(call), mark)]
    assert "next to nothing is left of the gradient where it comes to net." in answer.text


@pytest.mark.parametrize(
    ("call", "depth", "loss"),
    [
        ("act(layer(x))", 5, "x.pow(2).mean()"),
        ("x + act(layer(x))", 24, "x.pow(2).mean()"),
        ("torch.relu(layer(x))", 24, "x.pow(2).mean()"),
        # the gradients of all are small, none beside the others
        ("x + act(layer(x))", 24, "(1e-12 * x.pow(2).mean())"),
        # one weight is scaled down on purpose, and no way leads through many activations
        ("x + 1e-10 * layer(x)", 3, "(x.pow(2).mean() + net[0].weight.pow(2).sum())"),
    ],
)
def test_other_gradients_do_not_vanish_so(call: str, depth: int, loss: str) -> None:
    assert told(call, depth, loss) == []
