"""Parameters that are frozen with others by their names, as a prefix ends within a number."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

FROZEN = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(12))
        self.head = nn.Linear(4, 1)
    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x).tanh()
        return self.head(x)
def freeze(model, prefixes):
    for name, p in model.named_parameters():
        if name.startswith(prefixes):  # test
            p.requires_grad_(False)
model = Net()
freeze(model, ("stem", "blocks.0", "blocks.1"))  # given
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
for step in range(3):
    optimizer.zero_grad()
    model(torch.randn(5, 4)).pow(2).mean().backward()
    optimizer.step()
"""
TEST = "name.startswith(prefixes)"
GIVEN = '"stem", "blocks.0", "blocks.1"'


def found(source: str) -> list[tuple[str, list[int]]]:
    answers = [one for one in build(recorded(source)).answers if one.code == "frozen-by-beginning"]
    return [(one.text, [cause.line for cause in one.causes]) for one in answers]


@pytest.mark.parametrize(
    "test",
    [
        TEST,
        "any(name.startswith(one) for one in prefixes)",
        "any(one in name for one in prefixes)",
        "name.startswith('stem') or 'blocks.1' in name",
        "any(name.startswith(f'blocks.{number}') for number in range(2))",
        "name.startswith(tuple(f'blocks.{number}' for number in (0, 1)))",
    ],
)
def test_a_number_that_goes_on(test: str) -> None:
    source = FROZEN.replace(TEST, test)
    ((text, lines),) = found(source)
    assert "holds for blocks.10 and blocks.11 as well" in text and "4 parameters" in text
    assert line_of(source, "# test") in lines
    assert "prefixes" not in test or lines[0] == line_of(source, "# given")


def test_numbers_that_stand_behind_a_name() -> None:
    source = FROZEN.replace(
        "self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(12))",
        "for number in range(12):\n            setattr(self, f'layer{number}', nn.Linear(4, 4))",
    ).replace("in self.blocks", "in [getattr(self, f'layer{number}') for number in range(12)]")
    ((text, _),) = found(source.replace(GIVEN, '"stem", "layer0", "layer1"'))
    assert "layer10 and layer11" in text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"blocks.0", "blocks.1"', '"blocks.0.", "blocks.1."'),
        ('"blocks.0", "blocks.1"', '"blocks.0", "blocks.1", "blocks.10", "blocks.11"'),
        ('"blocks.0", "blocks.1"', '"blocks"'),
        ('"blocks.0", "blocks.1"', ", ".join(f'"blocks.{number}"' for number in range(10))),
        ("range(12)", "range(10)"),
        ('"blocks.0", "blocks.1"', '"blocks.10"'),
        (TEST, "name.split('.')[0] == 'stem' or name.split('.')[1] in ('0', '1')"),
        ("# given", "\nmodel.blocks[10].requires_grad_(True); model.blocks[11].requires_grad_(True)"),
        ("p.requires_grad_(False)", "p.requires_grad_(True)"),
    ],
    ids=[
        "dots",
        "all sought",
        "all blocks",
        "each digit",
        "no longer number",
        "the longer",
        "parts",
        "again",
        "trained",
    ],
)
def test_what_is_meant(before: str, after: str) -> None:
    assert before in FROZEN
    assert not found(FROZEN.replace(before, after, 1))
