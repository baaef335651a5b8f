"""Floats that torch refused to write into whole numbers, or to compute of them: the entry of a state is named."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

HEAD = """
import copy, torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.fc = nn.Linear(3, 1)
    def forward(self, x):
        return self.fc(self.norm(x))
nets = [Net() for _ in range(2)]
for net in nets:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.randn(8, 3)).pow(2).mean().backward()
    optimizer.step()
states = [net.state_dict() for net in nets]
mean = copy.deepcopy(states[0])
"""


def found(source: str) -> list[Answer]:
    return [answer for answer in build(recorded(source)).answers if answer.code == "integers-refused"]


@pytest.mark.parametrize(
    "body",
    [
        "for key in mean:\n    mean[key] += 0.5 * states[1][key]  # here",
        "for key, value in states[1].items():\n    mean[key].mul_(0.9).add_(value, alpha=0.1)  # here",
        "for key, value in mean.items():\n    value /= 2  # here",
        "mean = {k: torch.stack([s[k] for s in states]).mean(0) for k in mean}  # here",
        "for a, b in zip(nets[0].buffers(), nets[1].buffers()):\n    a.lerp_(b, 0.1)  # here",
        "for a, b in zip(nets[0].buffers(), nets[1].buffers()):\n    a.add_(b, alpha=0.1)  # here",
    ],
)
def test_the_entry_of_a_state_is_named_and_the_line_that_raised_comes_first(body: str) -> None:
    source = HEAD + body + "\n"
    (answer,) = found(source)
    assert answer.severity == "problem"
    assert "num_batches_tracked" in answer.text
    assert "int64" in answer.text
    assert "is_floating_point" in answer.advice
    assert answer.causes[0].line == line_of(source, "# here")


def test_the_line_that_made_a_tensor_of_whole_numbers_comes_first_where_it_is_no_states() -> None:
    source = "import torch\nseen = torch.zeros(3, dtype=torch.long)\nfor _ in range(2):\n    seen += torch.rand(3)\n"
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [2, 4]
    assert "state" not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        "for key, value in states[1].items():\n    mean[key] = mean[key] * 0.9 + value * 0.1",
        "for key, value in mean.items():\n    if value.is_floating_point():\n        value /= 2",
        "for key, value in mean.items():\n    value.copy_(0.5 * value)",
        "torch.zeros(3) + torch.ones(2)",
        "torch.arange(3).bool().add_(1)",
    ],
)
def test_what_raises_nothing_or_something_else_is_not_told_so(body: str) -> None:
    assert found(HEAD + body + "\n") == []


def test_a_refusal_that_the_program_asked_for_is_a_note() -> None:
    body = "try:\n    torch.arange(3).mul_(0.5)\nexcept RuntimeError as error:\n    print(error)\n"
    assert [answer.severity for answer in found(HEAD + body)] == ["note"]
