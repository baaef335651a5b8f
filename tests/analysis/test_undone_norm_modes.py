"""Batch norms on which ``eval()`` was called, and which ``train()`` of the whole model puts back."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.norm, self.head = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)
        self.drop = nn.Dropout(0.1)
        self.second = nn.BatchNorm1d(1)

    def forward(self, x):
        return self.second(self.head(self.drop(self.norm(self.layer(x)))))

{override}

def fix_norms(net):
    for m in net.modules():
        if isinstance(m, nn.BatchNorm1d):
            m.eval()  # asked

def each(m):
    if "Norm" in type(m).__name__:
        m.eval()  # applied

def validate(net):
    net.eval()
    with torch.no_grad():
        net(torch.randn(4, 3))

def validate_and_restore(net):
    net.eval()
    with torch.no_grad():
        net(torch.randn(4, 3))
    net.train()  # restored

def sampled(net):
    fix_norms(net)
    with torch.no_grad():
        return torch.stack([net(torch.randn(4, 3)) for _ in range(3)]).var(0)

net = Net()
net.norm.running_mean.fill_(1.0)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
{freeze}
for epoch in range(3):
    {mode}
    {after}
    for batch in torch.randn(2, 5, 3):
        optimizer.zero_grad()
        net(batch).pow(2).sum().backward()
        optimizer.step()
    {evaluate}
"""
USUAL = {
    "override": "",
    "freeze": "fix_norms(net)",
    "mode": "net.train()  # back",
    "after": "pass",
    "evaluate": "validate(net)",
}
OVERRIDE = """
def train(net, mode=True):
    nn.Module.train(net, mode)
    fix_norms(net)
    return net
Net.train = train
"""


def said(**changed: str) -> list[tuple[str, list[int]]]:
    source = PROGRAM.format(**{**USUAL, **changed})
    answers = build(recorded(source)).answers
    return [(one.text, [cause.line for cause in one.causes]) for one in answers if one.code == "frozen-norm-learns"]


@pytest.mark.parametrize(
    ("changed", "asked", "back"),
    [
        ({}, "# asked", "# back"),
        ({"freeze": "net.apply(each)"}, "# applied", "# back"),
        ({"freeze": "net.norm.eval()  # one", "after": "pass"}, "# one", "# back"),
        ({"freeze": "validate(net)\nfix_norms(net)\nvalidate(net)"}, "# asked", "# back"),
        ({"freeze": "", "mode": "fix_norms(net); net.train()  # back"}, "# asked", "# back"),
        (
            {"freeze": "net.train()\nfix_norms(net)", "mode": "pass", "evaluate": "validate_and_restore(net)"},
            "# asked",
            "# restored",
        ),
    ],
)
def test_the_train_that_undid_it_is_named_first(changed: dict[str, str], asked: str, back: str) -> None:
    source = PROGRAM.format(**{**USUAL, **changed})
    ((text, causes),) = said(**changed)
    assert causes == [line_of(source, back), line_of(source, asked)]
    assert "though eval() had been called on them" in text


@pytest.mark.parametrize(
    "changed",
    [
        {"after": "fix_norms(net)"},
        {"override": OVERRIDE},
        {"freeze": "", "evaluate": "sampled(net)"},
        {"freeze": "net.eval()"},
        {"freeze": "[m.eval() for m in net.modules()]"},
        {"freeze": "net.layer.eval()"},
        {"freeze": "fix_norms(net)\nnet.norm.train()\nnet.second.train()"},
        {"freeze": "net.norm.eval()", "after": "net.norm.train()"},
        {"freeze": "", "mode": "net.train()\n    if epoch < 1: fix_norms(net)"},
        {"freeze": "fix_norms(net)", "mode": "pass"},
    ],
)
def test_it_is_silent(changed: dict[str, str]) -> None:
    assert not said(**changed)
