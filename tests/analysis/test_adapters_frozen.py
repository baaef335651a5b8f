"""New layers that an optimizer is to train, frozen with what they were put into; and those frozen on purpose."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

TUNED = """import torch
from torch import nn
class Low(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base, self.down, self.up = base, nn.Linear(4, 2, bias=False), nn.Linear(2, 4, bias=False)
    def forward(self, x): return self.base(x) + self.up(self.down(x))
class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
    def forward(self, x): return self.last(torch.tanh(self.first(x)))
def put_in(model, names=("first",)):
    added = []
    for name in names:
        low = Low(getattr(model, name))
        setattr(model, name, low)
        added += [low.down.weight, low.up.weight]
    return added
def freeze(model):
    for p in model.parameters():
        p.requires_grad = False
text, image, head = Encoder(), Encoder(), nn.Linear(4, 1)
added = put_in(text)
text.requires_grad_(False)  # here
image.requires_grad_(False)
more = put_in(image)
optimizer = torch.optim.Adam([*added, *more, *head.parameters()], lr=0.01)
for step in range(4):
    optimizer.zero_grad()
    head(image(text(torch.rand(5, 4)))).pow(2).mean().backward()
    optimizer.step()
"""


def lines(source: str) -> list[list[int]]:
    answers = build(recorded(source)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "adapter-frozen"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("text.requires_grad_(False)  #", "freeze(text)  #"),
        ("text.requires_grad_(False)  #", "for p in text.parameters(): p.requires_grad_(False)  #"),
        ("more = put_in(image)", "more = []"),
        ("setattr(model, name, low)", "model.add_module(name, low)"),
        ("[*added, *more, *head.parameters()]", '[{"params": added}, {"params": [*more, *head.parameters()]}]'),
    ],
)
def test_the_freezing_is_the_cause(old: str, new: str) -> None:
    source = TUNED.replace(old, new)
    assert lines(source) == [[line_of(source, "# here")]]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "added = put_in(text)\ntext.requires_grad_(False)  # here",
            "text.requires_grad_(False)\nadded = put_in(text)",
        ),
        ("[*added, *more,", "[*more,"),
        ("[*added, *more, *head.parameters()]", "[p for m in (text, image, head) for p in m.parameters()]"),
        ("optimizer =", "for p in added: p.requires_grad_(True)\noptimizer ="),
        ("added = put_in(text)", "added = list(text.last.parameters())"),  # a part of the model itself
        # One of several parts is frozen on purpose, with what was put into it.
        (
            "put_in(text)\ntext.requires_grad_(False)",
            'put_in(text, ("first", "last"))\ntext.first.requires_grad_(False)',
        ),
    ],
)
def test_what_is_trained_or_frozen_on_purpose_is_none(old: str, new: str) -> None:
    assert lines(TUNED.replace(old, new)) == []
