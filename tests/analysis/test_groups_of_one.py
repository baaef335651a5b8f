"""A group norm whose groups are one value each: what is behind it gets what rounding leaves of zero."""

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
