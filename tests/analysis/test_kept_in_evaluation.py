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
        "def evaluate():\n    total = 0\n    for i in range(4):\n        total += layer(x).sum().item()\nevaluate()",
        "def evaluate():\n    for i in range(4):\n        total = 0\n        total += layer(x).sum()\nevaluate()",
    ],
)
def test_what_is_walked_or_has_no_graph_is_none(source: str) -> None:
    assert lines(source) == []
