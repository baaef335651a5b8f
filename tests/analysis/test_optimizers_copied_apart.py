"""An optimizer that was deep-copied apart from its network: the line that copies it is the one to change."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import copy
import torch
from torch import nn
net = nn.Linear(3, 1)
optimizer = torch.optim.{}
def fit(net, optimizer):
    for _ in range(4):
        optimizer.zero_grad()
        net(torch.randn(5, 3)).pow(2).mean().backward()
        optimizer.step()
fit(net, optimizer)
{}
fit(other, own)
"""
SGD, ADAM = "SGD(net.parameters(), lr=0.1)", "Adam(net.parameters())"


def found(kind: str, copies: str) -> tuple[list[int], str]:
    source = PROGRAM.format(kind, copies)
    answers = [one for one in build(recorded(source)).answers if one.code == "never-stepped"]
    return [cause.line for answer in answers for cause in answer.causes], source


@pytest.mark.parametrize("kind", [SGD, ADAM])
def test_the_line_that_copies_the_optimizer(kind: str) -> None:
    lines, source = found(kind, "other = copy.deepcopy(net)\nown = copy.deepcopy(optimizer)")
    assert lines == [line_of(source, "own = ")]


@pytest.mark.parametrize("kind", [SGD, ADAM])
def test_both_are_copied_at_once_or_the_optimizer_is_made_anew(kind: str) -> None:
    assert found(kind, "other, own = copy.deepcopy((net, optimizer))")[0] == []
    made = f"own = torch.optim.{kind.replace('net', 'other')}"
    loaded = "own.load_state_dict(copy.deepcopy(optimizer.state_dict()))"
    assert found(kind, f"other = copy.deepcopy(net)\n{made}\n{loaded}")[0] == []
