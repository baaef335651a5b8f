"""Steps that change what was frozen or had its gradient set to zero; and those that do not."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

PROGRAM = """
import torch
from torch import nn
body, head = nn.Linear(2, 2), nn.Linear(2, 1)
optimizer = torch.optim.{optimizer}([*body.parameters(), *head.parameters()], {settings})
for i in range(8):
    optimizer.zero_grad(set_to_none={to_none})
    if i == 3:
        {freeze}
    head(body(torch.ones(3, 2))).sum().backward()
    if i > 4:
        {clear}
    optimizer.step()
"""
FREEZE = "body.requires_grad_(False)"
CLEAR = "[p.grad.zero_() for p in body.parameters()]"


def said(
    freeze: str = "pass", clear: str = "pass", to_none: bool = False, optimizer: str = "SGD", settings: str = "lr=0.1"
) -> list[int]:
    source = PROGRAM.format(freeze=freeze, clear=clear, to_none=to_none, optimizer=optimizer, settings=settings)
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "moved-without-gradient" for cause in one.causes]


def test_what_is_frozen_while_its_gradient_is_there_goes_on_with_momentum_or_decay() -> None:
    assert said(FREEZE, optimizer="Adam") == [8]
    assert said(FREEZE, settings="lr=0.1, weight_decay=0.1") == [8]


def test_zeros_stop_no_momentum() -> None:
    assert said(clear=CLEAR, settings="lr=0.1, momentum=0.9") == [11, 4]


@pytest.mark.parametrize(
    "given",
    [
        {"freeze": FREEZE},
        {"freeze": FREEZE, "optimizer": "Adam", "to_none": True},
        {"clear": CLEAR},
        {"freeze": "pass", "optimizer": "Adam"},
    ],
    ids=["zeros and nothing else", "no gradient", "zeros without momentum", "nothing was to stay"],
)
def test_it_is_silent_where_nothing_moves_them_or_nothing_was_to_stay(given: dict[str, object]) -> None:
    assert said(**given) == []  # type: ignore[arg-type]
