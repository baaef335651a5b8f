"""Loops over names that find none of those that are kept: said where the function was called and steps were made."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
net = nn.Linear(3, 1)
model = nn.ModuleDict({{"module": net}})
class Average:
    def __init__(self, module):
        self.calls, self.wanted = 0, set()
        self.shadow = {{n: p.detach().clone() for n, p in module.named_parameters()}}
        self.kept = {{}}
        for n, p in module.named_parameters():
            self.kept[n] = p.detach().clone()
    @torch.no_grad()
    def update(self, module):
        {}
average = Average(net)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    net(torch.rand(4, 3)).pow(2).mean().backward()
    optimizer.step()
    average.update({})
"""
LOOP = "for name, p in module.named_parameters():"


def found(body: str, given: str = "model") -> tuple[list[int], str]:
    source = PROGRAM.format(body.replace("\n", "\n        "), given)
    answers = [one for one in build(recorded(source)).answers if one.code == "average-skipped"]
    return [cause.line for answer in answers for cause in answer.causes], source


LOOPS = [
    f"{LOOP}\n    if name in self.shadow:\n        self.shadow[name].lerp_(p, 0.1)",
    f"{LOOP}\n    if p.requires_grad and name in self.shadow:\n        self.shadow[name].mul_(0.9).add_(p, alpha=0.1)",
    f"{LOOP}\n    if name not in self.kept:\n        continue\n    self.kept[name].lerp_(p, 0.1)",
    "for k, v in module.state_dict().items():\n    if k in self.shadow:\n        self.shadow[k].lerp_(v, 0.1)",
    f"self.calls += 1\nwith torch.no_grad():\n    {LOOP}\n        if name in self.kept:\n            "
    "self.kept[name] = 0.9 * self.kept[name] + 0.1 * p",
]


@pytest.mark.parametrize("body", LOOPS)
def test_no_name_is_among_those_kept(body: str) -> None:
    lines, source = found(body)
    assert lines == [
        line_of(source, next(one for one in body.split("\n") if " in self." in one or "not in" in one).strip())
    ]
    assert found(body, 'model["module"]')[0] == []


@pytest.mark.parametrize(
    "body",
    [
        f"self.calls += 1\nif self.calls < 100:\n    return\n{LOOPS[0]}",
        f"if self.calls:\n    {LOOP}\n        if name in self.shadow:\n            self.shadow[name].lerp_(p, 0.1)",
        f"{LOOP}\n    if name in self.wanted:\n        self.wanted[name].lerp_(p, 0.1)",
        f"{LOOP}\n    if name in self.shadow or self.calls:\n        self.shadow[name].lerp_(p, 0.1)",
        f"{LOOP}\n    if name in self.shadow:\n        print(name)",
    ],
)
def test_what_may_be_meant(body: str) -> None:
    assert found(body)[0] == []


def test_it_was_called_once() -> None:
    source = PROGRAM.format(LOOPS[0].replace("\n", "\n        "), "model").replace(
        "    average.update", "average.update"
    )
    assert all(one.code != "average-skipped" for one in build(recorded(source)).answers)
