"""Parameters that each forward pass overwrites with a state of the network; and those that are written otherwise."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
torch.manual_seed(0)
class Stateful(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.out = nn.Parameter(torch.zeros(1, 1, 4)), nn.Linear(4, 1)
        self.gru = nn.GRU(2, 4, batch_first=True)
    def forward(self, x):
        begin = self.first.expand(1, len(x), -1).contiguous()
        y, h = self.gru(x, begin)
        {carry}  # written
        return self.out(y)
net = Stateful()
optimizer = torch.optim.SGD({held}, lr=0.1)
for step in range(6):
    loss = net(torch.randn(3, 5, 2)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    {after}
"""


def causes(carry: str, after: str = "pass", held: str = "net.parameters()") -> list[int]:
    answers = build(recorded(PROGRAM.format(carry=carry, after=after, held=held))).answers
    return [cause.line for one in answers if one.code == "weights-overwritten" for cause in one.causes]


@pytest.mark.parametrize(
    "carry",
    [
        "self.first.data = h.mean(1, keepdim=True).data",
        "self.first.data = h.detach().mean(1, keepdim=True)",
        "self.first.data.copy_(h.mean(1, keepdim=True))",
    ],
)
def test_a_state_in_the_place_of_a_parameter(carry: str) -> None:
    assert causes(carry) == [line_of(PROGRAM, "# written")]


@pytest.mark.parametrize(
    ("carry", "after"),
    [
        ("self.state = h.mean(1, keepdim=True).detach()", "pass"),
        # The parameter's own values, moved or kept in bounds.
        ("self.first.data = 0.9 * self.first.data + 0.1 * h.mean(1, keepdim=True).data", "pass"),
        ("self.first.data = self.first.data.clamp(-1, 1)", "pass"),
        ("pass", "net.first.data = net.first.data / (net.first.data.norm() + 1)"),
        ("self.first.data = x.mean().expand(1, 1, 4).contiguous()", "pass"),
    ],
)
def test_what_is_kept_beside_or_made_of_the_parameter_itself_is_silent(carry: str, after: str) -> None:
    assert causes(carry, after) == []


def test_a_state_that_nothing_trains_is_none() -> None:
    carry = "self.first.data = h.mean(1, keepdim=True).data"
    assert causes(carry, held="[*net.gru.parameters(), *net.out.parameters()]") == []
