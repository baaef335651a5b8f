"""Parameters in two optimizers: what is meant to be trained apart is reported, what is shared on purpose is not."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

BEGIN = """
import torch
from torch import nn
from torch.nn import functional as F
torch.manual_seed(0)
body, head, other = nn.Linear(3, 4), nn.Linear(4, 3), nn.Linear(4, 3)
mix = nn.Parameter(torch.zeros(4))
net = lambda x: head(body(x) * mix.exp())
def step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
batch = lambda: torch.randn(5, 3)
"""
SEARCH = """
outer = torch.optim.Adam([mix], 0.01)
inner = torch.optim.SGD([mix, *body.parameters(), *head.parameters()], 0.01)
for i in range(4):
    x = batch()
    step(outer, F.mse_loss(net(x), x.tanh()))
    for _ in range(INNER):
        x = batch()
        step(inner, F.mse_loss(net(x), x.tanh()) + 0.1 * head.weight.pow(2).sum())
"""
HEALTHY = {
    "the same batch": SEARCH.replace("    for _ in range(INNER):\n        x = batch()\n", "    if True:\n"),
    "another loss": SEARCH.replace("F.mse_loss(net(x), x.tanh()) +", "F.l1_loss(net(x), x.tanh()) +"),
    "no shared parameter": SEARCH.replace("SGD([mix, *body", "SGD([*body"),
    "one phase after the other": """
first = torch.optim.Adam(head.parameters(), 0.01)
second = torch.optim.SGD([*body.parameters(), *head.parameters()], 0.01)
for optimizer in (first, second):
    for i in range(4):
        x = batch()
        step(optimizer, F.mse_loss(net(x), x.tanh()))
""",
    "an encoder of two networks": """
encoder = torch.optim.Adam(body.parameters(), 0.01)
critic = torch.optim.Adam([*body.parameters(), *head.parameters()], 0.01)
for i in range(4):
    x = batch()
    step(critic, F.mse_loss(net(x), x.tanh()))
    x = batch()
    step(encoder, F.mse_loss(other(body(x)), x))
""",
    "a head for each": """
left = torch.optim.Adam([*body.parameters(), *head.parameters()], 0.01)
right = torch.optim.Adam([*body.parameters(), *other.parameters()], 0.01)
for i in range(4):
    x = batch()
    step(left, F.mse_loss(head(body(x)), x.tanh()))
    x = batch()
    step(right, F.mse_loss(other(body(x)), x.tanh()))
""",
    "the same for both": """
left = torch.optim.Adam([*body.parameters(), *head.parameters()], 0.01)
right = torch.optim.SGD([*body.parameters(), *head.parameters()], 0.01)
for i in range(4):
    x = batch()
    step(left, F.mse_loss(net(x), x.tanh()))
    x = batch()
    step(right, F.mse_loss(net(x), x.tanh()))
""",
}


def said(program: str) -> list[Answer]:
    source = BEGIN + program.replace("INNER", "1")
    return [one for one in build(recorded(source)).answers if one.code == "held-by-two-optimizers"]


@pytest.mark.parametrize("inner", ["1", "3"])
def test_the_optimizer_that_has_more_is_named(inner: str) -> None:
    (answer,) = said(SEARCH.replace("INNER", inner))
    assert [cause.line for cause in answer.causes] == [line_of(BEGIN + SEARCH, "inner =")]
    assert "holds mix as well" in answer.text


@pytest.mark.parametrize("name", HEALTHY)
def test_what_is_shared_on_purpose_is_not_reported(name: str) -> None:
    assert not said(HEALTHY[name])
