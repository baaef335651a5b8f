"""One module several times in a list of layers, where a list of one item is multiplied."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = "import torch\nfrom torch import nn\nblock = nn.Linear(3, 3)\n"


def lines(source: str) -> list[int]:
    answers = build(recorded(f"{HEAD}{source}\nblock(torch.ones(3))\n")).answers
    return [cause.line for one in answers if one.code == "repeated-module" for cause in one.causes]


@pytest.mark.parametrize(
    "source",
    [
        "net = nn.ModuleList([block] * 4)",
        "net = nn.Sequential(*[nn.Linear(3, 3)] * 2)",
        "layers = 4 * [block]\nnet = nn.ModuleList(layers)",
    ],
)
def test_the_line_that_multiplies_the_list_is_the_cause(source: str) -> None:
    assert lines(source) == [4]


@pytest.mark.parametrize(
    "source",
    [
        "net = nn.ModuleList([nn.Linear(3, 3) for _ in range(4)])",
        "net = nn.Sequential(block, *[nn.ReLU()] * 3)",
        "net = nn.Sequential(block, nn.ReLU(), block)",
        "shared = block\nnet = nn.ModuleList([shared] * 4)",
    ],
)
def test_several_modules_and_what_is_shared_on_purpose_are_none(source: str) -> None:
    assert lines(source) == []
