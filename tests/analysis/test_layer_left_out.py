"""Layers that an optimizer holds and that nothing uses; and those that stay without a gradient for a reason."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

PROGRAM = """
import torch
from torch import nn
class Net({base}):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(2, 2)
        self.extra = nn.Linear(2, 2)
        self.head = nn.Linear(2, 1)
    def forward(self, x):
        h = self.body(x)
        {line}
        return self.head(h)
net = Net()
optimizer = torch.optim.SGD({parameters}, lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    net(torch.ones(3, 2)).sum().backward()
    optimizer.step()
"""


def said(line: str, base: str = "nn.Module", parameters: str = "net.parameters()") -> list[int]:
    answers = build(recorded(PROGRAM.format(line=line, base=base, parameters=parameters))).answers
    return [cause.line for one in answers if one.code == "layer-left-out" for cause in one.causes]


@pytest.mark.parametrize(
    ("line", "cause"),
    [("pass", 7), ("'An extrapolated text.'", 7), ("z = self.extra(h)", 11), ("z = torch.relu(self.extra(h))", 11)],
)
def test_the_line_that_makes_it_or_drops_its_result_is_the_cause(line: str, cause: int) -> None:
    assert said(line) == [cause]


def test_a_name_that_is_given_twice_where_another_is_not_read() -> None:
    assert said("z = self.extra(h)\n        h = torch.maximum(h, h) + (lambda a, b: a * b)(h, h.detach())") == [12, 11]
    assert said("z = self.extra(h)\n        h = torch.mul(h, h)") == [11]


@pytest.mark.parametrize(
    "line",
    [
        "h = self.extra(h)",
        "h = h if self.training else self.extra(h)",
        "h = getattr(self, 'body')(h)",
        "self.kept = self.extra(h)",
        "z = self.extra(h); h = h + 0 * z.detach()",
    ],
)
def test_a_layer_that_is_read_somewhere_is_none(line: str) -> None:
    assert said(line) == []


def test_a_layer_of_which_no_optimizer_knows_or_that_a_base_class_may_use_is_none() -> None:
    assert said("pass", parameters="[*net.body.parameters(), *net.head.parameters()]") == []
    assert said("pass", base="nn.Sequential") == []
