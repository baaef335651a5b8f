"""Optimizers that are made again in each epoch, and those with which another training begins."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

EPOCHS = """
import torch
from torch import nn
net = nn.Linear(3, 1)
start = [p.detach().clone() for p in net.parameters()]
batches = torch.rand(3, 4, 3)
for epoch in range(5):
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)  # made
    for batch in batches:
        optimizer.zero_grad()
        net(batch).pow(2).mean().backward()
        optimizer.step()
"""
FUNCTION = """
import torch
from torch import nn
net = nn.Linear(3, 1)
class Trainer:
    def __init__(self):
        self.loader = list(torch.rand(3, 4, 3))
    def train_epoch(self, model, lr=0.01):
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)  # made
        for i, batch in enumerate(self.loader):
            optimizer.zero_grad()
            model(batch).pow(2).mean().backward()
            optimizer.step()
trainer = Trainer()
for round in range(6):
    trainer.train_epoch(net)
    print("round", round)
"""
HELPER = EPOCHS.replace(
    "for epoch", "def adam(model):\n    return torch.optim.Adam(model.parameters())  # made\nfor epoch"
)
HELPER = HELPER.replace("torch.optim.Adam(net.parameters(), lr=0.01)  # made", "adam(net)")
MAKES = "optimizer = torch.optim.Adam(net.parameters(), lr=0.01)  # made"


def found(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == "optimizer-made-anew"]


@pytest.mark.parametrize(
    "source",
    [
        EPOCHS,
        FUNCTION,
        HELPER,
        EPOCHS.replace("for batch in batches", "for at in range(0, 3, 1)").replace("batch)", "batches[at])"),
        EPOCHS.replace("range(5)", "range(7)").replace("in batches", "in list(batches)"),
    ],
    ids=["in the loop", "a method", "made by a function", "slices", "a list"],
)
def test_the_line_that_makes_it_in_each_epoch_is_the_cause(source: str) -> None:
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# made")]
    assert "is made after every 3 steps" in answer.text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("range(5)", "range(2)"),
        ("lr=0.01", "lr=0.01 / (1 + epoch)"),
        (MAKES, "for p, s in zip(net.parameters(), start): p.data.copy_(s)\n    " + MAKES),
        (MAKES, MAKES + "\n    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)"),
        (MAKES, "net = nn.Linear(3, 1)\n    " + MAKES),
        ("in batches:", "in torch.rand(3, 4, 3) + epoch:"),
        ("for batch in batches:", "data = torch.rand(3, 4, 3)\n    for batch in data:"),
        ("for batch in batches:", "for _ in range(3):\n        batch = batches[0]"),
        ("for epoch in range(5):", "for epoch in ['a', 'b', 'c', 'd', 'e']:"),
        ("for epoch in range(5):", "for stage in range(5):\n    net.stage = stage"),
        ("    for batch in batches:", "    for again in range(2):\n     for batch in batches:"),
        ("Adam(net.parameters(), lr=0.01)", "SGD(net.parameters(), lr=0.01)"),
    ],
    ids=[
        "twice",
        "other rates",
        "set back",
        "a scheduler",
        "another model",
        "other batches",
        "new data",
        "a problem of its own",
        "tasks",
        "stages",
        "several epochs each",
        "keeps nothing",
    ],
)
def test_another_training_begins(old: str, new: str) -> None:
    assert old in EPOCHS
    assert not found(EPOCHS.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("train_epoch(net)", "train_epoch(net, 0.1 / (1 + round))"),
        ("for round in range(6):", "for round in range(6):\n    trainer.loader = list(torch.rand(3, 4, 3))"),
        ("trainer.train_epoch(net)\n", "trainer.train_epoch(net)\n    net = nn.Linear(3, 1)\n"),
    ],
)
def test_another_training_in_a_function(old: str, new: str) -> None:
    assert old in FUNCTION
    assert not found(FUNCTION.replace(old, new))
