"""requires_grad that is saved twice before it is set back: told by the line that saves, silent where it is chosen."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

LOOP = """
import torch
from torch import nn
torch.manual_seed(0)
critic, actor = nn.Linear(3, 1), nn.Linear(3, 3)
saved = {}
def off():
    SAVES
def back():
    BACK
of_actor, of_critic = (torch.optim.SGD(one.parameters(), 0.1) for one in (actor, critic))
for i in range(8):
    x = torch.rand(4, 3)
    of_critic.zero_grad()
    (critic(x).pow(2).sum() + actor(x).pow(2).sum()).backward()
    of_critic.step()
    off()
    TWICE
    of_actor.zero_grad()
    (-critic(actor(x)).mean()).backward()
    of_actor.step()
    back()
"""
WHOLE = "saved.update({n: p.requires_grad for n, p in critic.named_parameters()}); critic.requires_grad_(False)"
BACK = "for n, p in critic.named_parameters(): p.requires_grad_(saved[n])"


def said(saves: str = WHOLE, back: str = BACK, twice: str = "if i == 2: off()") -> list[Answer]:
    source = LOOP.replace("SAVES", saves).replace("BACK", back).replace("TWICE", twice)
    return [one for one in build(recorded(source)).answers if one.code == "saved-when-frozen"]


@pytest.mark.parametrize(
    "saves",
    [
        WHOLE,
        """for n, p in critic.named_parameters():
        saved[n] = p.requires_grad
        p.requires_grad = False""",
    ],
)
def test_the_line_that_saves_is_named(saves: str) -> None:
    (answer,) = said(saves)
    assert answer.causes[0].line in (line_of(LOOP, "SAVES"), line_of(LOOP, "SAVES") + 1)
    assert "critic.weight and critic.bias" in answer.text


@pytest.mark.parametrize(
    ("saves", "back", "twice"),
    [
        (WHOLE, BACK, "pass"),
        (WHOLE, "for n, p in critic.named_parameters(): p.requires_grad_(n == '')", "if i == 2: off()"),
        (WHOLE, "critic.requires_grad_(True)", "if i == 2: off()"),
        ("critic.requires_grad_(False)", "critic.requires_grad_(True)", "if i == 2: off()"),
    ],
)
def test_what_is_set_back_or_chosen_is_fine(saves: str, back: str, twice: str) -> None:
    assert not said(saves, back, twice)
