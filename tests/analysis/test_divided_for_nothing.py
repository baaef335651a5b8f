"""Losses divided for an accumulation to no effect; and those of one that does, or that nobody counts on."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PLAIN = """
import torch
net = torch.nn.Linear(3, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
x, accum = torch.randn(32, 3), 4
for epoch in range(2):
    for i in range(0, 32, 8):
        loss = net(x[i : i + 8]).pow(2).mean() / accum
        loss.backward()
        if i % accum == 0:  # asked
            opt.step()
            opt.zero_grad()
"""
TRAINER = """
import torch
class Trainer:
    def __init__(self, net, every=4):
        self.net, self.every = net, every
        self.opt = torch.optim.Adam(net.parameters(), lr=0.1)
        self.seen = 0
    def round(self, batch):
        loss = self.net(batch).pow(2).mean()
        loss /= self.every
        loss.backward()
        self.seen += len(batch)
        if not self.seen % self.every:  # asked
            self.opt.step()
            self.opt.zero_grad()
trainer = Trainer(torch.nn.Linear(3, 1))
for batch in torch.randn(6, 8, 3):
    trainer.round(batch)
"""
FUNCTION = """
import torch
def fit(net, batches, accum):
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    for i, batch in enumerate(batches):
        (net(batch).pow(2).mean() / accum).backward()
        if accum * i % accum == 0:  # asked
            opt.step()
            net.zero_grad()
fit(torch.nn.Linear(3, 1), torch.randn(6, 8, 3), 2)
"""


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [one.causes[0].line for one in answers if one.code == "divided-for-nothing"]


@pytest.mark.parametrize("source", [PLAIN, TRAINER, FUNCTION])
def test_the_condition_is_the_line_to_change(source: str) -> None:
    assert lines(source) == [line_of(source, "# asked")]


@pytest.mark.parametrize(
    "source",
    [
        PLAIN.replace("i % accum == 0", "(i // 8 + 1) % accum == 0"),
        PLAIN.replace("torch.randn(32, 3), 4", "torch.randn(32, 3), 1"),
        PLAIN.replace("torch.randn(32, 3), 4", "torch.randn(32, 3), int(input or 1)").replace(
            "import torch", "import torch\ninput = 4"
        ),
        PLAIN.replace("mean() / accum", "mean() / 2"),
        PLAIN.replace("32, 8)", "32, accum)").replace("i + 8", "i + accum").replace("mean()", "sum()"),
        PLAIN.replace("mean() / accum", "mean()"),
        PLAIN.replace("            opt.zero_grad()\n", ""),
        PLAIN.replace("range(2)", "range(1)").replace("range(0, 32, 8)", "range(0, 16, 8)"),
        TRAINER.replace("Linear(3, 1))\n", "Linear(3, 1), every=1)\n"),
        TRAINER.replace("len(batch)", "1"),
        FUNCTION.replace("8, 3), 2)", "8, 3), 1)"),
        FUNCTION + "if False: fit(None, [], 1)\n",
    ],
)
def test_an_accumulation_that_takes_place_or_is_of_one_is_none(source: str) -> None:
    assert lines(source) == []
