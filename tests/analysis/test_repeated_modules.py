"""One module several times in a list of layers: a list of one item is multiplied, or a loop puts it there."""

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
        "net = nn.ModuleList([block for _ in range(4)])",
        "net = nn.ModuleList(block for _ in range(4))",
        "net = nn.Sequential(*[block for _ in range(3)])",
        "def clones(layer, n): return nn.ModuleList([layer for _ in range(n)])\nnet = clones(block, 4)",
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
        "blocks = [nn.Linear(3, 3), nn.Linear(3, 3)]\nnet = nn.ModuleList([block for block in blocks])",
        "share = True\nif share:\n    net = nn.ModuleList([block for _ in range(4)])",
        "head = nn.Module()\nhead.of = block\nhead.all = nn.ModuleList([head.of for _ in range(4)])",
        "net = nn.ModuleList()\nfor _ in range(3):\n    layer = nn.Linear(3, 3)\n    net.append(layer)",
    ],
)
def test_several_modules_and_what_is_shared_on_purpose_are_none(source: str) -> None:
    assert lines(source) == []


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("stack = []\nfor _ in range(3):\n    stack.append(block)\nnet = nn.Sequential(*stack)", 6),
        ("net = nn.ModuleList()\nfor _ in range(3):\n    net.append(block)", 6),
        ("net = nn.Module()\nfor i in range(3):\n    net.add_module(f'cell{i}', block)", 6),
        (
            "class Net(nn.Module):\n    def __init__(self, layers):\n        super().__init__()\n"
            "        self.layers = nn.ModuleList(layers)\nnet = Net([block for _ in range(3)])",
            8,
        ),
    ],
)
def test_the_line_that_puts_one_module_there_again_and_again_is_the_cause(source: str, line: int) -> None:
    assert lines(source) == [line]
