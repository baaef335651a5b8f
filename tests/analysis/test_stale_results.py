"""Results that were computed once, of weights that steps change: the line that computed them, and no other."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

HEAD = """import torch
from torch import nn
torch.manual_seed(0)
class Trunk(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)
    def forward(self, x):
        return torch.tanh(self.layer(x))
trunk, head = Trunk(), nn.Linear(4, 1)
both = torch.optim.SGD([*trunk.parameters(), *head.parameters()], lr=0.1)
only_head = torch.optim.SGD(head.parameters(), lr=0.1)
x, y = torch.randn(8, 3), torch.randn(8, 1)
"""


def found(source: str) -> list[Answer]:
    return [answer for answer in build(recorded(source)).answers if answer.code == "stale-result"]


STALE = {
    "features": """
features = trunk(x)  # computed
for step in range(5):
    loss = (head(features) - y).pow(2).mean()
    both.zero_grad()
    loss.backward(retain_graph=True)
    both.step()
trunk(x)
""",
    "in a class": """
class Trainer:
    def __init__(self):
        self.features = trunk(x)  # computed
    def fit(self):
        for step in range(5):
            loss = (head(self.features) - y).pow(2).mean()
            both.zero_grad()
            loss.backward(retain_graph=True)
            both.step()
Trainer().fit()
""",
    "a sum that saves nothing": """
class Weight:
    def __init__(self):
        self.kernel = head.weight + head.weight.flip(1)  # computed
weight = Weight()
for step in range(5):
    loss = (torch.ones(8, 4) @ weight.kernel.t() - y).pow(2).mean()
    both.zero_grad()
    loss.backward()
    both.step()
""",
    "a table of scales": """
log_scale = torch.zeros(4, requires_grad=True)
optimizer = torch.optim.Adam([log_scale], lr=0.1)
scale = log_scale.exp()  # computed
for step in range(5):
    optimizer.zero_grad()
    (scale * step - 1).pow(2).sum().backward(retain_graph=True)
    optimizer.step()
""",
}


@pytest.mark.parametrize("case", STALE)
def test_the_line_that_computed_it_is_the_cause(case: str) -> None:
    source = HEAD + STALE[case]
    (answer,) = found(source)
    line = line_of(source, "# computed")
    assert answer.severity == "warning"
    assert [cause.line for cause in answer.causes] == [line]
    assert answer.text.startswith(f"Line {line}: ")
    assert answer.text.lower().count("line ") == 1


HEALTHY = {
    "a view of a weight": """
turned = head.weight.t()
for step in range(5):
    loss = (torch.ones(8, 4) @ turned - y).pow(2).mean()
    both.zero_grad()
    loss.backward()
    both.step()
""",
    "computed in each iteration, two passes": """
for step in range(5):
    features = trunk(x)
    both.zero_grad()
    (head(features) - y).pow(2).mean().backward(retain_graph=True)
    features.pow(2).mean().backward()
    both.step()
""",
    "a trunk that no step changes": """
features = trunk(x)
for step in range(5):
    only_head.zero_grad()
    (head(features) - y).pow(2).mean().backward(retain_graph=True)
    only_head.step()
""",
    "several passes before one step": """
for epoch in range(4):
    features = trunk(x)
    both.zero_grad()
    for part in range(4):
        head(features)[part].sum().backward(retain_graph=True)
    both.step()
""",
    "computed anew every few steps": """
for epoch in range(2):
    features = trunk(x)
    for step in range(4):
        both.zero_grad()
        (head(features) - y).pow(2).mean().backward(retain_graph=True)
        both.step()
""",
    "computed anew on an object": """
class Trainer:
    def refresh(self):
        self.features = trunk(x)
    def fit(self):
        for step in range(8):
            if step % 4 == 0:
                self.refresh()
            both.zero_grad()
            (head(self.features) - y).pow(2).mean().backward(retain_graph=True)
            both.step()
Trainer().fit()
""",
    "a state that is carried along": """
cell = nn.RNNCell(3, 4)
bias = torch.zeros(1, 4, requires_grad=True)
optimizer = torch.optim.SGD([bias], lr=0.1)
state = torch.zeros(1, 4)
for step in range(5):
    state = torch.tanh(state + bias)
    optimizer.zero_grad()
    state.sum().backward(retain_graph=True)
    optimizer.step()
""",
}


@pytest.mark.parametrize("case", HEALTHY)
def test_nothing_is_said_of(case: str) -> None:
    assert found(HEAD + HEALTHY[case]) == []
