"""``train()`` calls that an evaluation undoes before the training pass, which leaves the model in evaluation mode."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.norm, self.head = nn.Linear(3, 4), {norm}, nn.Linear(4, 1)
        self.drop = nn.Dropout({rate})

    def forward(self, x):
        return self.head(self.drop(self.norm(self.layer(x))))

    @torch.no_grad()
    def predict(self, x):
        was = self.training
        self.eval()  # sets
        found = self(x) > 0
        {restore}
        return found.float()

class Around(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net, self.scale = net, nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.net(x) * self.scale

def labels(net, x):
    return net.predict(x)

def attack(net, x):
    net.eval()
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(x).sum(), x)
    net.train()
    return (x + 0.1 * gradient.sign()).detach()

net, other = Net(), Net()
whole = Around(net)
optimizer = torch.optim.SGD(whole.parameters(), lr=0.1)

def loss_of(x):
    {mode}
    {labels}
    {between}
    return (whole(x) - target).pow(2).mean()

for epoch in range(2):
    {start}
    for x in torch.randn(3, 5, 3):
        optimizer.zero_grad()
        loss = loss_of(x)
        loss.backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        net(torch.randn(4, 3))
"""
USUAL = {
    "norm": "nn.BatchNorm1d(4)",
    "rate": "0.1",
    "restore": "pass",
    "mode": "net.train()  # train",
    "labels": "target = labels(net, x)  # asks",
    "between": "pass",
    "start": "pass",
}


def said(**changed: str) -> list[tuple[str, list[int]]]:
    answers = build(recorded(PROGRAM.format(**{**USUAL, **changed}))).answers
    return [(one.text, [cause.line for cause in one.causes]) for one in answers if one.code == "trained-in-evaluation"]


@pytest.mark.parametrize(
    ("changed", "first"),
    [
        ({}, "# asks"),
        ({"rate": "0.0"}, "# asks"),
        ({"norm": "nn.Identity()"}, "# asks"),
        ({"mode": "whole.train()"}, "# asks"),
        ({"labels": "net.eval()  # inline\n    with torch.no_grad():\n        target = net(x)"}, "# inline"),
    ],
)
def test_the_call_that_evaluates_is_named_first(changed: dict[str, str], first: str) -> None:
    ((text, causes),) = said(**changed)
    source = PROGRAM.format(**{**USUAL, **changed})
    assert causes[0] == line_of(source, first)
    assert "6 steps train it so" in text
    assert ("without dropout" in text) == (changed.get("rate") != "0.0")
    assert ("batch norms" in text) == ("norm" not in changed)


def test_it_is_told_where_train_is_called_once_an_epoch() -> None:
    changed = {"mode": "pass", "start": "net.train()  # train"}
    found = said(**changed)
    assert len(found) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"restore": "self.train(was)"},
        {"restore": "for m in self.modules(): m.training = was"},
        {"between": "net.train()"},
        {"labels": "target = labels(other, x)"},
        {"labels": "x = attack(net, x); target = 0"},
        {"norm": "nn.Identity()", "rate": "0.0"},
        {"norm": "nn.BatchNorm1d(4, track_running_stats=False)", "rate": "0.0"},
        {"labels": "net.eval(); target = 0"},
    ],
)
def test_it_is_silent(changed: dict[str, str]) -> None:
    found = [text for text, _ in said(**changed) if "between train()" in text]
    assert not found
