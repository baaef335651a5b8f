"""Evaluations that build up graphs; and results that are walked, detached, few, or of training."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = """
import torch
layer, x = torch.nn.Linear(3, 1), torch.ones(2, 3)
layer(x).sum().backward()
"""


def lines(source: str) -> list[list[int]]:
    answers = build(recorded(HEAD + source)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "evaluated-with-graph"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "def run():\n    layer.eval()\n    kept = []\n    for i in range(4):\n        kept.append(layer(x))\n"
            "    return torch.cat(kept)\nrun()",
            [4, 8],
        ),
        ("def evaluate():\n    total = 0\n    for i in range(4):\n        total += layer(x).sum()\nevaluate()", [4, 7]),
        ("layer.eval()\ntotal = 0\nfor i in range(4):\n    total = total + layer(x).sum()", [7]),
    ],
)
def test_the_function_and_the_line_that_keeps_are_the_causes(source: str, expected: list[int]) -> None:
    assert lines(source) == [expected]


@pytest.mark.parametrize(
    "source",
    [
        "def evaluate():\n    torch.cat([layer(x) for i in range(4)]).sum().backward()\nevaluate()",
        "def evaluate():\n    torch.cat([layer(x).detach() for i in range(4)])\nevaluate()",
        "@torch.no_grad()\ndef evaluate():\n    torch.cat([layer(x) for i in range(4)])\nevaluate()",
        "def evaluate():\n    torch.cat([layer(x), layer(x)])\nevaluate()",
        "def rounds():\n    torch.cat([layer(x) for i in range(4)])\nrounds()",
        "layer.eval()\ndef forward(x):\n    total = 0\n    for i in range(4):\n        total = total + layer(x).sum()\n"
        "    return total, layer(x)\n[forward(x)[1].sum() for i in range(3)]",
        "def evaluate():\n    total = 0\n    for i in range(4):\n        total += layer(x).sum().item()\nevaluate()",
        "def evaluate():\n    for i in range(4):\n        total = 0\n        total += layer(x).sum()\nevaluate()",
    ],
)
def test_what_is_walked_or_has_no_graph_is_none(source: str) -> None:
    assert lines(source) == []


FORCES = """
def forces(at):
    at = at.clone().requires_grad_()
    return torch.autograd.grad(layer(at).exp().sum(), at, create_graph=True)[0]
def evaluate():
    layer.eval()
    total = 0
    for i in range(4):
        total += forces(x).pow(2).exp().sin().tanh().mean()
    return total
evaluate()
"""


def test_no_grad_is_not_advised_where_gradients_are_asked_for() -> None:
    (answer,) = (one for one in build(recorded(HEAD + FORCES)).answers if one.code == "evaluated-with-graph")
    assert "no_grad" not in answer.text
    assert [cause.source.strip() for cause in answer.causes] == ["total += forces(x).pow(2).exp().sin().tanh().mean()"]
    parts = "    kept = forces(x)\n    return sum((kept[n] * x[n]).sum() for n in (0, 1, 0, 1))\nevaluate()"
    assert lines(FORCES.partition("    total")[0] + parts) == []
