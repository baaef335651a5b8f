"""The work that is timed. Each function sets up and returns a function of no arguments: one step of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

Step = Callable[[], None]

CHAIN = 1000
"""Multiplications in one step of :func:`multiplications`."""


@dataclass(frozen=True)
class Workload:
    """One kind of work."""

    title: str
    prepare: Callable[[], Step]
    calls: int
    """Steps in one timing: enough to take some tens of milliseconds."""
    budget: float | None = None
    """The ratio to bare that recording may cost at most (DESIGN.md), where there is one."""


def encoder() -> tuple[nn.Module, Tensor]:
    """A small transformer's encoder (2 layers, width 128), and 8 sequences of 64 tokens."""
    layer = nn.TransformerEncoderLayer(128, 4, 256, batch_first=True, dropout=0.0)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), torch.randn(8, 64, 128)


def transformer() -> Step:
    """A training step of a small transformer, AdamW."""
    network, inputs = encoder()
    head = nn.Linear(128, 100)
    targets = torch.randint(0, 100, (8 * 64,))
    optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()])

    def step() -> None:
        loss = functional.cross_entropy(head(network(inputs)).view(-1, 100), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def forward_and_backward() -> Step:
    """The same without the optimizer: gradients add up."""
    network, inputs = encoder()
    head = nn.Linear(128, 100)
    targets = torch.randint(0, 100, (8 * 64,))

    def step() -> None:
        functional.cross_entropy(head(network(inputs)).view(-1, 100), targets).backward()

    return step


class Forward:
    """The forward pass of a small transformer's encoder, called as the tool at work wants it."""

    def __init__(self) -> None:
        self.network, self.inputs = encoder()
        self.call: Callable[[nn.Module, Tensor], object] = nn.Module.__call__

    def __call__(self) -> None:
        self.call(self.network, self.inputs)


def convolution() -> Step:
    """A training step of a small convolutional network on 16 images of 32 by 32, with batch norm, SGD."""
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 8 * 8, 10),
    )
    images, targets = torch.randn(16, 3, 32, 32), torch.randint(0, 10, (16,))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        loss = functional.cross_entropy(network(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def lstm() -> Step:
    """A training step of an LSTM written cell by cell: 32 steps of width 64, batch of 16."""
    cell, head = nn.LSTMCell(32, 64), nn.Linear(64, 1)
    inputs, targets = torch.randn(32, 16, 32), torch.randn(16, 1)
    optimizer = torch.optim.SGD([*cell.parameters(), *head.parameters()], lr=0.01)

    def step() -> None:
        hidden = memory = torch.zeros(16, 64)
        for row in inputs:
            hidden, memory = cell(row, (hidden, memory))
        loss = functional.mse_loss(head(hidden), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def multiplications() -> Step:
    """A chain of 1,000 multiplications of 4 elements, forward and backward: all overhead."""
    start = torch.ones(4, requires_grad=True)
    factor = torch.ones(4, requires_grad=True)

    def step() -> None:
        product = start
        for _ in range(CHAIN):
            product = product * factor
        product.sum().backward()

    return step


def adam() -> Step:
    """One eager Adam step (``foreach=False``) over 500 parameters of 8 elements."""
    parameters = [torch.randn(8, requires_grad=True) for _ in range(500)]
    for parameter in parameters:
        parameter.grad = torch.randn(8)
    optimizer = torch.optim.Adam(parameters, foreach=False)

    def step() -> None:
        optimizer.step()

    return step


WORKLOADS = {
    "transformer": Workload("small transformer's training step", transformer, 10, 1.10),
    "convolution": Workload("convolutional network's training step", convolution, 10),
    "lstm": Workload("LSTM training step, cell by cell", lstm, 10),
    "multiplications": Workload("1,000 multiplications of 4 elements", multiplications, 5, 1.6),
    "adam": Workload("eager Adam step, 500 parameters", adam, 5, 2.0),
}
LADDERS = (
    WORKLOADS["multiplications"],
    Workload("small transformer's forward and backward pass", forward_and_backward, 10),
)
