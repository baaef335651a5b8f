"""A second backward through the graph of data: what they were made from requires grad, and nothing trains it."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
torch.manual_seed(0)
def synthetic(count):
    true_w = torch.randn(2, 1, requires_grad=True)
    features = torch.randn(count, 2)
    return features, features @ true_w + 0.1
features, labels = synthetic(8)
w = torch.zeros(2, 1, requires_grad=True)
for step in range(3):
    loss = (features @ w - labels).square().mean()
    loss.backward()
    with torch.no_grad():
        w -= 0.1 * w.grad
    w.grad = None
"""


def causes(program: str) -> list[list[int]]:
    answers = build(recorded(program)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "graph-used-twice"]


def test_the_line_that_makes_it_require_grad_is_named() -> None:
    assert causes(PROGRAM) == [[line_of(PROGRAM, "true_w = torch")]]


def test_data_that_do_not_track_are_quiet() -> None:
    assert causes(PROGRAM.replace("torch.randn(2, 1, requires_grad=True)", "torch.randn(2, 1)")) == []


@pytest.mark.parametrize("trains", ["true_w -= 0.1 * true_w.grad", "w.mul_(1)"])
def test_what_is_trained_or_where_nothing_else_is_that_is_not_the_cause(trains: str) -> None:
    """``labels`` were computed once from a weight that each round changes, or nothing but they has a graph."""
    program = PROGRAM.replace("    true_w = torch", "    global true_w\n    true_w = torch")
    program = program.replace("w -= 0.1 * w.grad", trains)
    if "w.mul_" in trains:
        program = program.replace("features @ w - labels", "features @ w.detach() - labels")
    assert causes(program) == [[line_of(program, "labels = synthetic")]]
