"""Norms over one value each: what is behind them gets what rounding leaves of zero."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 8, 1)
        self.norm = nn.GroupNorm({}, 8)
        self.last = nn.Conv2d(8, 1, 1)
    def forward(self, x):
        h = self.first(x)
        return self.last(self.norm(h){})
torch.manual_seed(0)
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(5):
    optimizer.zero_grad()
    net(torch.rand(4, 2, {size}, {size})).pow(2).mean().backward()
    optimizer.step()
"""


def answers(groups: int, rest: str = "", size: int = 1) -> tuple[list, str]:
    source = PROGRAM.format(groups, rest, size=size)
    return [one for one in build(recorded(source)).answers if one.code == "gradient-always-zero"], source


def test_one_value_a_group() -> None:
    (answer,), source = answers(8)
    assert [cause.line for cause in answer.causes] == [line_of(source, "self.norm = ")]
    assert "net.first.weight" in answer.text
    assert "norm.bias" not in answer.text
    assert "but for rounding" in answer.text


@pytest.mark.parametrize(("groups", "rest", "size"), [(4, "", 1), (8, "", 2), (8, " + h", 1)])
def test_several_values_a_group_or_a_way_around(groups: int, rest: str, size: int) -> None:
    assert all("first" not in one.text for one in answers(groups, rest, size)[0])


OF_FEATURES = """
import torch
import torch.nn.functional as F
from torch import nn
class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.out = nn.Linear(6, 8), nn.Linear(8, width)
        self.norm = nn.LayerNorm(width, elementwise_affine=AFFINE)  # made
    def forward(self, x):
        h = self.out(torch.relu(self.first(x)))
        return GIVES  # given
torch.manual_seed(0)
net = Net(WIDTH)
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(12):
    optimizer.zero_grad()
    (net(torch.randn(16, 6)) - torch.randn(16, WIDTH)).pow(2).mean().backward()
    optimizer.step()
"""


def blamed(gives: str, width: int = 1, affine: bool = True) -> list[str]:
    source = OF_FEATURES.replace("GIVES", gives).replace("WIDTH", str(width)).replace("AFFINE", str(affine))
    found = [one for one in build(recorded(source)).answers if one.code == "gradient-always-zero"]
    return [source.strip().splitlines()[cause.line - 1].rpartition("# ")[2] for one in found for cause in one.causes]


@pytest.mark.parametrize(
    ("gives", "affine", "lines"),
    [
        ("self.norm(h)", True, ["made"]),
        ("self.norm(h) * 2 + 1", False, ["made"]),
        ("F.layer_norm(h, (1,))", True, ["given"]),
        ("F.normalize(h, dim=1)", True, ["given"]),
        ("2 * F.normalize(h, p=2.0, dim=-1)", True, ["given"]),
        ("F.normalize(h)", True, ["given"]),
        ("torch.cosine_similarity(h, torch.rand(16, 1)).unsqueeze(1)", True, ["given"]),
    ],
)
def test_one_feature(gives: str, affine: bool, lines: list[str]) -> None:
    assert blamed(gives, affine=affine) == lines


@pytest.mark.parametrize(
    ("gives", "width"),
    [
        ("self.norm(h)", 2),
        ("self.norm(h) + h", 1),
        ("F.normalize(h, dim=1)", 3),
        ("F.normalize(h, dim=0)", 1),
        ("F.normalize(h, dim=1) * h.abs()", 1),
        ("torch.cosine_similarity(h, torch.rand(16, 1), dim=0).unsqueeze(1)", 1),
    ],
)
def test_several_features_or_a_way_around(gives: str, width: int) -> None:
    assert blamed(gives, width, affine=False) == []
