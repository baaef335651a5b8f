"""Where one line explains what several rules see, it is told once, and no other line is blamed."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SWAPPED = """
import torch
class Ema:
    def __init__(self, model):
        self.model = model
        self.shadow = [p.detach().clone() for p in model.parameters()]
    @torch.no_grad()
    def update(self):
        for s, p in zip(self.shadow, self.model.parameters()):
            s.lerp_(p, 0.1)
    @torch.no_grad()
    def swap_in(self):
        self.backup = [p.detach() for p in self.model.parameters()]  # taken
        for s, p in zip(self.shadow, self.model.parameters()):
            p.copy_(s)
    @torch.no_grad()
    def swap_out(self):
        for b, p in zip(self.backup, self.model.parameters()):
            p.copy_(b)
net = torch.nn.Linear(6, 1)
ema = Ema(net)
optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
x = torch.randn(20, 6)
for epoch in range(4):
    for _ in range(3):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()
        ema.update()
    ema.swap_in()
    with torch.no_grad():
        print(net(x).sum().item())
    ema.swap_out()
"""
PER_SAMPLE = """
import torch
model = torch.nn.Linear(5, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for batch in torch.randn(6, 4, 5):
    samples = []
    for row in batch:
        optimizer.zero_grad(set_to_none=False)
        model(row).sum().backward()
        samples.append([p.grad for p in model.parameters()])  # taken
    total = [sum(one).clamp(-1, 1) for one in zip(*samples)]
    for p, g in zip(model.parameters(), total):
        p.grad = g
    optimizer.step()
"""
NORMED_LATE = """
import torch
from torch.nn.utils.parametrizations import weight_norm
net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
weight_norm(net[0])  # taken
for step in range(4):
    optimizer.zero_grad()
    net(torch.ones(2, 4)).square().mean().backward()
    optimizer.step()
"""


def _told(source: str) -> dict[str, list[int]]:
    answers = build(recorded(source)).answers
    return {one.code: [cause.line for cause in one.causes] for one in answers if one.severity != "note"}


@pytest.mark.parametrize(
    ("source", "code"),
    [(SWAPPED, "snapshot-shares-memory"), (PER_SAMPLE, "kept-again"), (NORMED_LATE, "never-stepped")],
)
def test_the_line_that_took_no_copy_or_came_too_late_is_all_that_is_told(source: str, code: str) -> None:
    told = _told(source)
    assert list(told) == [code]
    if code != "never-stepped":
        assert told[code][0] == line_of(source, "# taken")


@pytest.mark.parametrize(
    ("source", "before", "after", "code"),
    [
        (SWAPPED, "            p.copy_(b)", "            pass", "average-left-in-model"),
        (PER_SAMPLE, "[p.grad for p in model.parameters()]", "row", "accumulation-cleared"),
        (
            NORMED_LATE,
            "weight_norm(net[0])",
            "old = net[0].weight; net[0].weight = torch.nn.Parameter(old.detach())",
            "never-stepped",
        ),
    ],
)
def test_what_the_other_rules_are_for_is_told_as_ever(source: str, before: str, after: str, code: str) -> None:
    source = source.replace(before, after)
    if code == "accumulation-cleared":
        source = source[: source.index("    total =")] + "    optimizer.step()\n"
    assert code in _told(source)
