"""Deep copies of what is frozen: said where the copy is to be trained, as its place or an optimizer shows."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.frames.names.copies_of_items import copied_beside_itself
from tests.analysis.building import line_of, recorded

GROWING = """
import copy
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(3, 3)])
        self.head = nn.Linear(3, 1)
    def grow(self):
        {}
    def forward(self, x):
        return self.head(sum(part(x) for part in self.parts))
net = Net()
for task in range(2):
    if task:
        net.grow()
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    for step in range(3):
        optimizer.zero_grad()
        net(torch.rand(4, 3)).pow(2).mean().backward()
        optimizer.step()
"""
FREEZE = "self.parts.requires_grad_(False)"
COPY = "copy.deepcopy(self.parts[-1])"


def found(source: str) -> list[int]:
    answers = [one for one in build(recorded(source)).answers if one.code == "copied-while-frozen"]
    return [cause.line for answer in answers for cause in answer.causes]


def grown(body: str) -> str:
    return GROWING.format(body.replace("\n", "\n        "))


@pytest.mark.parametrize(
    "put",
    [
        f"self.parts.append({COPY})",
        f"new = {COPY}\nself.parts.append(new)",
        "last = self.parts[-1]\nself.parts.append(copy.deepcopy(last))",
        f"self.parts.insert(0, {COPY})",
        f"self.parts += [{COPY}]",
    ],
)
def test_the_copy_is_put_beside_what_was_trained_and_frozen(put: str) -> None:
    source = grown(f"{FREEZE}\n{put}")
    assert found(source) == [line_of(source, "deepcopy")]


@pytest.mark.parametrize(
    "body",
    [
        f"self.parts.append({COPY})\nself.parts[0].requires_grad_(False)",
        f"{FREEZE}\nself.parts.append({COPY})\nself.parts[-1].requires_grad_(True)",
        f"{FREEZE}\nself.parts.append(nn.Linear(3, 3))",
        f"{FREEZE}\nself.kept = {COPY}",
    ],
)
def test_it_is_copied_first_or_set_back_or_kept_elsewhere(body: str) -> None:
    assert found(grown(body)) == []


TWO = """
import copy
import torch
from torch import nn
base = nn.Linear(3, 3).requires_grad_(False)
part = copy.deepcopy(base)
head = nn.Linear(3, 1)
optimizer = torch.optim.SGD({}, lr=0.1)
for step in range(4):
    x = torch.rand(5, 3)
    optimizer.zero_grad()
    (head({}).pow(2).mean() + head(x).mean()).backward()
    optimizer.step()
"""
ALL = "[*part.parameters(), *head.parameters()]"
APART = "[{'params': part.parameters()}, {'params': head.parameters()}]"


def test_a_group_of_the_copy_alone() -> None:
    source = TWO.format(APART, "part(x) - base(x)")
    assert found(source) == [line_of(source, "deepcopy")]


@pytest.mark.parametrize(("given", "used"), [(ALL, "part(x) - base(x)"), (APART, "part(x)"), (APART, "base(x)")])
def test_a_frozen_backbone_of_its_own(given: str, used: str) -> None:
    assert found(TWO.format(given, used)) == []


@pytest.mark.parametrize(
    ("body", "of"),
    [
        (
            "    self.old = self.net\n    self.old.requires_grad_(False)\n    self.net = copy.deepcopy(self.old)",
            "self.old",
        ),
        ("    self.old, self.net = self.net, copy.deepcopy(self.net)", "self.net"),
        ("    self.old = copy.deepcopy(self.net)", ""),
        ("    self.heads[1] = copy.deepcopy(self.heads[0])", "self.heads[0]"),
        ("    self.probes.append(copy.deepcopy(self.net))", ""),
        ("    state = copy.deepcopy(self.net.state_dict())", ""),
    ],
)
def test_where_the_text_puts_a_copy(body: str, of: str) -> None:
    lines = f"def f(self):\n{body}\n"
    assert copied_beside_itself(lines, lines.count("\n")) == of
