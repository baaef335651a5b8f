"""Evaluations in the middle of which train() is called, and that go on so; and where that is meant, or put back."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
batches = [torch.randn(6, 2) for _ in range(5)]
def draws(x):
    return torch.stack([model(x) for _ in range(3)]).std(0).mean()
"""
LINES = HEAD.strip("\n").count("\n") + 1


def said(source: str) -> list[list[int]]:
    answers = build(recorded(HEAD + source)).answers
    return [[cause.line - LINES for cause in one.causes] for one in answers if one.code == "evaluated-in-training"]


LOOP = """\
def probe(x):
    {probe}
@torch.no_grad()
def evaluate():
    model.eval()
    total = 0.0
    for i, x in enumerate(batches):
        {before}
        total += model(x).square().sum().item()
        {after}
    return total
evaluate()
"""


@pytest.mark.parametrize(
    ("source", "line"),
    [
        pytest.param(
            LOOP.format(probe="model.train(); draws(x)", before="pass", after="if i == 0: probe(x)"), 2, id="once"
        ),
        pytest.param(
            LOOP.format(probe="model.train(); draws(x)", before="pass", after="probe(x)"), 2, id="in each round"
        ),
        pytest.param(
            LOOP.format(probe="model.train()", before="pass", after="if i == 1: probe(x)"), 2, id="and nothing else"
        ),
        pytest.param(
            LOOP.format(probe="pass", before="pass", after="if i == 0: model.train(); draws(x)"), 10, id="in the loop"
        ),
        pytest.param(
            LOOP.format(
                probe="for m in model:\n        if isinstance(m, nn.Dropout): m.train()\n    draws(x)",
                before="pass",
                after="if i == 0: probe(x)",
            ),
            3,
            id="on dropouts only",
        ),
        pytest.param(
            "class Watch:\n    def __call__(self, x): model.train(); draws(x)\n"
            "class Trainer:\n"
            "    def start(self): model.eval()\n"
            "    def call(self, x):\n        for one in [Watch()]: one(x)\n"
            "    def test(self):\n        self.start()\n        scores = []\n"
            "        with torch.no_grad():\n            for i, x in enumerate(batches):\n"
            "                scores.append(model(x).argmax(1).sum())\n"
            "                if not i: self.call(x)\n"
            "Trainer().test()",
            2,
            id="by a callback",
        ),
    ],
)
def test_the_call_of_train_is_named(source: str, line: int) -> None:
    assert said(source) == [[line]]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(
            LOOP.format(probe="model.train(); draws(x); model.eval()", before="pass", after="probe(x)"), id="put back"
        ),
        pytest.param(
            LOOP.format(probe="model.train(); draws(x)", before="model.eval()", after="probe(x)"),
            id="eval() in each round",
        ),
        pytest.param(
            LOOP.format(
                probe="model.train(); draws(x)\n    for m in model.modules(): m.training = False",
                before="pass",
                after="probe(x)",
            ),
            id="put back without a call",
        ),
        pytest.param(
            LOOP.format(probe="model.train(); draws(x)", before="pass", after="pass") + "for x in batches: probe(x)",
            id="another loop",
        ),
        pytest.param(
            LOOP.format(probe="pass", before="pass", after="pass")
            + "def run():\n    return [model(x).sum().item() for x in batches]\n"
            "with torch.no_grad():\n    for mode in (False, True):\n        model.train(mode)\n"
            "        for x in batches: total = model(x).sum()\n",
            id="both modes one after the other",
        ),
        pytest.param(
            "def predict(x):\n    with torch.no_grad(): return model(x).sum().item()\n"
            "model.eval()\nfor x in batches: predict(x)\nmodel.train()\nfor x in batches: predict(x)",
            id="a function that is called in both modes",
        ),
        pytest.param(
            LOOP.format(
                probe="for m in model:\n        if isinstance(m, nn.Dropout): m.train()",
                before="pass",
                after="draws(x)",
            ).replace("    total = 0.0", "    probe(batches[0])\n    total = 0.0"),
            id="dropouts that are switched on before",
        ),
        pytest.param(
            "other = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))\n"
            + LOOP.format(probe="other.train(); other(x)", before="pass", after="probe(x)"),
            id="another model",
        ),
        pytest.param(
            LOOP.format(
                probe="model.train(); model(x).sum().backward(); model.zero_grad()", before="pass", after="probe(x)"
            ).replace("@torch.no_grad()\n", ""),
            id="steps of a training between",
        ),
    ],
)
def test_it_is_silent(source: str) -> None:
    assert not said(source)
