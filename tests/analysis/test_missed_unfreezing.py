"""Parameters that are to be trained by what their names begin with, and whose names begin with something else."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import recorded

PROGRAM = """
import torch
from torch import nn

class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1, self.layer4 = nn.Linear(3, 4), nn.Linear(4, 4)
    def forward(self, x):
        return self.layer4(self.layer1(x).relu()).relu()

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = Body(), nn.Linear(4, 1)
    def forward(self, x):
        return self.head(self.body(x))

SOUGHT = 'layer4'
model = Net()
body = model.body
{froze}
{loop}
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
"""
FROZE = "model.body.requires_grad_(False)"
LOOP = """for name, p in {of}.named_parameters():
    if {test}:
        p.requires_grad = True
"""


def found(loop: str, froze: str = FROZE) -> list[Answer]:
    answers = build(recorded(PROGRAM.format(loop=loop, froze=froze))).answers
    return [answer for answer in answers if answer.code == "unfrozen-in-vain"]


def loop_of(test: str, of: str = "model") -> str:
    return LOOP.format(of=of, test=test)


@pytest.mark.parametrize(
    "test",
    [
        'name.startswith("layer4")',
        'name.startswith(("layer4", "head"))',
        'any(name.startswith(key) for key in ["layer4"])',
        'name in {"layer4.weight", "layer4.bias"}',
        'name == "layer4.weight" or name == "layer4.bias"',
    ],
)
def test_the_test_is_named(test: str) -> None:
    (answer,) = found(loop_of(test))
    assert answer.causes[0].source.strip() == f"if {test}:"
    assert "layer4.bias did not require grad" in answer.text
    assert "(body.layer4." in answer.text


def test_where_a_function_is_given_the_names_the_line_of_the_call_is_named_too() -> None:
    loop = f"def unfreeze(keys):\n    {loop_of('name.startswith(tuple(keys))').replace(chr(10), chr(10) + '    ')}\n"
    (answer,) = found(f'{loop}unfreeze(["layer4"])')
    assert [cause.source.strip() for cause in answer.causes][1:] == ['unfreeze(["layer4"])']
    assert found(loop) == []  # (nothing calls it)


def test_what_freezes_all_but_what_it_seeks_is_named() -> None:
    loop = 'for name, p in model.named_parameters():\n    if not name.startswith(("layer4", "head")):\n'
    (answer,) = found(f"{loop}        p.requires_grad = False", froze="")
    assert "layer4" in answer.text and "layer1" not in answer.text
    assert found(f"{loop}        p.requires_grad = False".replace('"layer4', '"body.layer4'), froze="") == []


def test_behind_a_wrapper_names_begin_with_its_own() -> None:
    wrapped = "model = nn.DataParallel(model)\nmodel.module.body.requires_grad_(False)"
    (answer,) = found(loop_of('name.startswith("body.layer4")'), froze=wrapped)
    assert "module.body.layer4." in answer.text
    assert found(loop_of('name.startswith("module.body.layer4")'), froze=wrapped) == []


@pytest.mark.parametrize(
    "loop",
    [
        loop_of('name.startswith("body.layer4")'),
        loop_of('"layer4" in name'),
        loop_of('name.startswith("layer4")', of="model.body"),
        loop_of('name.startswith("layer4")', of="body"),
        loop_of('name.startswith("lora")'),
        loop_of('name.startswith("head")'),
        loop_of('name.endswith("bias")'),
        # (a later phase freezes what this one had found)
        f"stage = model.body\n{loop_of('name.startswith(SOUGHT)', of='stage')}{FROZE}",
    ],
)
def test_what_finds_them_or_seeks_others_is_not_reported(loop: str) -> None:
    assert found(loop) == []
