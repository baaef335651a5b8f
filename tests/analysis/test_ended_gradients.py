"""Gradients that end in zeros in calls that were given others: the calls are measured, what is meant is not told."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

LOOP = """
import torch
import torch.nn.functional as F
from torch import nn
torch.manual_seed(0)
{made}
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(5):
    optimizer.zero_grad()
    loss = (net(torch.rand(4, 5, 6)) - 1).pow(2).mean()
    loss.backward()
    optimizer.step()
"""

RECURRENT = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.KIND(6, 8, bidirectional=TWO, batch_first=True, num_layers=LAYERS)
        self.fc = nn.LazyLinear(2)
    def forward(self, x):
        GIVEN = self.rnn(x)
        return self.fc(
            TAKEN  # taken
        )
net = Net()
net(torch.rand(4, 5, 6))
"""


def recurrent(taken: str, kind: str = "GRU", given: str = "y, h", two: bool = True, layers: int = 1) -> str:
    made = RECURRENT.replace("KIND", kind).replace("GIVEN", given).replace("TAKEN", taken)
    return LOOP.format(made=made.replace("TWO", str(two)).replace("LAYERS", str(layers)))


def lines(source: str) -> list[list[int]]:
    found = [one for one in build(recorded(source)).answers if one.severity != "note"]
    assert all(one.code == "gradient-always-zero" for one in found)
    return [[cause.line for cause in one.causes] for one in found]


@pytest.mark.parametrize(
    "source",
    [
        recurrent("h[-1]"),
        recurrent("h[0]", "LSTM", "_, (h, c)"),
        recurrent("h[-1].relu()", "RNN", layers=2),
        recurrent("y[:, -1, 8:]"),
        recurrent("y.transpose(0, 1)[-1][:, :self.rnn.hidden_size]"),
        recurrent("h.transpose(0, 1)[:, 1]"),
    ],
)
def test_one_direction_alone_is_taken(source: str) -> None:
    assert lines(source) == [[line_of(source, "# taken")]]


@pytest.mark.parametrize(
    "source",
    [
        recurrent("h[-1]", two=False),
        recurrent("torch.cat([h[0], h[1]], 1)"),
        recurrent("y[:, -1]"),
        recurrent("h[-1] + y.mean(1)[:, :8]"),
        recurrent("h[int(torch.rand(()) < 0)]"),
        recurrent("h.mean(0)"),
    ],
)
def test_the_other_is_taken_too_or_the_part_is_not_fixed(source: str) -> None:
    assert lines(source) == []


SAMPLED = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.flow = nn.Conv2d(1, 2, 3, padding=1)
        base = torch.stack(torch.meshgrid(torch.arange(6.0), torch.arange(5.0), indexing="xy"), -1)
        self.register_buffer("base", BASE)  # made
    def forward(self, x):
        move = self.flow(x[:, None]).permute(0, 2, 3, 1)
        return F.grid_sample(x[:, None], POINTS, align_corners=True)  # sampled
net = Net()
"""


@pytest.mark.parametrize(
    ("base", "points", "named"),
    [
        ("base + 2", "self.base + move", ["# made", "# sampled"]),
        ("base + 2", "move.tanh() + self.base", ["# made", "# sampled"]),
        ("base / 2.5 - 1", "self.base + move * 0.01", []),
        ("base", "self.base + move", []),
    ],
    ids=["pixels", "the other way round", "scaled", "some are inside"],
)
def test_points_outside_of_an_image(base: str, points: str, named: list[str]) -> None:
    source = LOOP.format(made=SAMPLED.replace("BASE", base).replace("POINTS", points))
    assert lines(source) == ([[line_of(source, one) for one in named]] if named else [])


REDUCED = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 2)
    def forward(self, x):
        m = MESSAGES
        where = torch.arange(20)[:, None].expand(20, 6) // 4
        return self.last(GATHERED)  # gathered
net = Net()
"""
NEGATIVE = "-F.softplus(self.first(x.flatten(0, 1)))"


@pytest.mark.parametrize(
    ("messages", "gathered", "is_named"),
    [
        (NEGATIVE, "torch.zeros(5, 6).scatter_reduce(0, where, m, reduce='amax')", True),
        (NEGATIVE, "torch.zeros(5, 6).scatter_reduce_(0, where, m, 'amax', include_self=True)", True),
        (NEGATIVE, "torch.zeros(5, 6).index_reduce(0, where[:, 0], m, 'amax')", True),
        (f"-{NEGATIVE}", "torch.zeros(5, 6).scatter_reduce(0, where, m, reduce='amin')", True),
        (NEGATIVE, "torch.zeros(5, 6).scatter_reduce(0, where, m, reduce='amax', include_self=False)", False),
        (f"-{NEGATIVE}", "torch.zeros(5, 6).scatter_reduce(0, where, m, reduce='amax')", False),
    ],
)
def test_what_is_there_before_is_larger(messages: str, gathered: str, is_named: bool) -> None:
    source = LOOP.format(made=REDUCED.replace("MESSAGES", messages).replace("GATHERED", gathered))
    assert lines(source) == ([[line_of(source, "# gathered")]] if is_named else [])


FLAT = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 6, bias=False), nn.Linear(6, 2)
        self.scale = SCALE
    def forward(self, x):
        return self.last(CALL(self.first(x) * self.scale))  # flat
net = Net()
"""


@pytest.mark.parametrize(
    ("scale", "call", "is_named"),
    [
        ("1e6", "torch.sigmoid", True),
        ("1e5", "torch.tanh", True),
        ("1e8", "F.hardsigmoid", True),
        ("1", "torch.sigmoid", False),
        ("0", "torch.sigmoid", False),
    ],
)
def test_all_of_it_is_where_a_function_is_flat(scale: str, call: str, is_named: bool) -> None:
    source = LOOP.format(made=FLAT.replace("SCALE", scale).replace("CALL", call))
    assert lines(source) == ([[line_of(source, "# flat")]] if is_named else [])


def test_a_gradient_that_comes_later_is_none_that_ended() -> None:
    made = FLAT.replace("SCALE", "1e6").replace("CALL", "torch.sigmoid")
    source = LOOP.format(made=made).replace("step in range(5)", "step in range(9)")
    assert lines(source)
    assert lines(source.replace("loss =", "net.scale = 1 if step == 8 else 1e6\n    loss =")) == []


MEANT = {
    "a mask": "self.last(self.first(x) * torch.zeros(6))",
    "a weight that is warmed up": "self.last(x) + 0.0 * self.first(x).sum()",
}


@pytest.mark.parametrize("meant", MEANT)
def test_masks_and_choices_are_not_told(meant: str) -> None:
    made = FLAT.replace("self.last(CALL(self.first(x) * self.scale))", MEANT[meant]).replace("SCALE", "1")
    assert lines(LOOP.format(made=made)) == []
