"""A function that computes in place and gives back what it is given, and a caller that goes on with that."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

PLACED = """
import torch
from torch import nn
torch.manual_seed(0)
def centred(cloud):
    cloud -= cloud.mean(dim=1, keepdim=True)  # write
    return cloud
model = nn.Linear(4, 6)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
code, target = torch.randn(5, 4), torch.randn(5, 2, 3)
def criterion(cloud):
    shape = torch.cdist(centred(cloud), centred(target.clone())).mean()
    place = (cloud.mean(dim=1) - target.mean(dim=1)).pow(2).mean()  # read
    return shape + place
for step in range(3):
    loss = criterion(model(code).view(5, 2, 3) + 0)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
MODULE = """
import torch
from torch import nn
torch.manual_seed(0)
class Scaled(nn.Module):
    def forward(self, values, factor=2.0):
        return values.mul_(factor)  # write
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 1)
        self.scaled = Scaled()
    def forward(self, x):
        hidden = self.body(x)
        large = self.scaled(hidden)
        out = self.head(large)
        return out, hidden.abs().mean()  # read
net = Net()
for step in range(3):
    out, penalty = net(torch.randn(3, 4))
    (out.mean() + penalty).backward()
"""


def found(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == "argument-written"]


@pytest.mark.parametrize(
    "source",
    [
        PLACED,
        PLACED.replace("centred(cloud), centred(target.clone())", "near, target").replace(
            "    shape", "    near = centred(cloud)\n    shape"
        ),
        PLACED.replace("cloud -= cloud.mean(dim=1, keepdim=True)  # write\n", "# nothing\n").replace(
            "return cloud\n", "return cloud.sub_(cloud.mean(dim=1, keepdim=True))  # write\n"
        ),
        MODULE,
    ],
    ids=["in a call", "by another name", "a method", "a module"],
)
def test_what_writes_and_what_goes_on_with_it_are_named(source: str) -> None:
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# write"), line_of(source, "# read")]
    assert answer.severity == "warning"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("cloud -= cloud", "cloud = cloud - cloud"),
        ("    shape = torch.cdist(centred(cloud)", "    cloud = centred(cloud)\n    shape = torch.cdist(cloud"),
        ("    shape = torch.cdist(centred(cloud)", "    centred(cloud)\n    shape = torch.cdist(cloud"),
        ("cloud.mean(dim=1) - target", "cloud.new_zeros(5, 3) + shape - target"),
        ("centred", "centre_"),
        ("cloud -= cloud.mean(dim=1, keepdim=True)", "cloud.clamp_(-1, 1)"),
        ("centred(cloud), ", "centred(cloud.clone()), "),
        ("shape + place", "shape + place.detach()"),
        ("    return cloud\n", "    return cloud.norm()\n"),
    ],
    ids=[
        "out of place",
        "bound to the same name",
        "called for what it writes",
        "not read",
        "a name that says so",
        "kept in bounds",
        "a copy is handed over",
        "not for the loss",
        "something else is given back",
    ],
)
def test_what_is_meant_or_does_no_harm_is_not_told(old: str, new: str) -> None:
    source = PLACED.replace(old, new)
    if "norm()" in new:
        source = source.replace("torch.cdist(centred(cloud), centred(target.clone())).mean()", "centred(cloud)")
    assert source != PLACED
    assert not found(source)
