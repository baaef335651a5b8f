"""Learning rates of zero, early schedulers, and train() and eval() in the wrong place; and where they are right."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = """
import torch
from torch import nn
trunk, head = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), nn.Sequential(nn.Dropout(0.1), nn.Linear(2, 1))
model, x = nn.Sequential(trunk, head), torch.ones(3, 2)
lr_scheduler = torch.optim.lr_scheduler
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def step():
    optimizer.zero_grad()
    model(x).sum().backward()
    optimizer.step()
"""
CODES = {"learning-rate-zero", "scheduler-before-step", "trained-in-evaluation", "frozen-norm-learns"}


def said(source: str) -> list[tuple[str, str, list[int]]]:
    answers = build(recorded(HEAD + source)).answers
    return [(one.code, one.severity, [cause.line for cause in one.causes]) for one in answers if one.code in CODES]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param(
            "optimizer = torch.optim.SGD(model.parameters(), lr=0)\nfor i in range(4): step()",
            ("learning-rate-zero", "warning", [11]),
            id="an optimizer of rate zero",
        ),
        pytest.param(
            "s = lr_scheduler.LambdaLR(optimizer, lambda i: max(0, 1 - i / 4))\nfor i in range(12): step(); s.step()",
            ("learning-rate-zero", "warning", [11]),
            id="a decay that is over too soon",
        ),
        pytest.param(
            "def factor(i):\n    if i < 30:\n        return i // 30\n    return 1.0\n"
            "s = lr_scheduler.LambdaLR(optimizer, factor)\nfor i in range(12): step(); s.step()",
            ("learning-rate-zero", "warning", [13, 15]),
            id="a warm-up that divides without a rest",
        ),
        pytest.param(
            "old = torch.optim.SGD(model.parameters(), lr=0.1)\n"
            "s = lr_scheduler.LinearLR(old, 1.0, 0.0, 4)\n"
            "for i in range(4): optimizer = old; step(); s.step()\n"
            "optimizer = torch.optim.SGD(model.parameters(), lr=0.01)\n"
            "again = lr_scheduler.ExponentialLR(optimizer, 0.9)\n"
            "optimizer.load_state_dict(old.state_dict())\n"
            "for i in range(5): step(); again.step()",
            ("learning-rate-zero", "warning", [16]),
            id="a saved state that brings back the end of a schedule",
        ),
        pytest.param(
            "def run(lr, state=None):\n"
            "    global optimizer\n"
            "    optimizer = torch.optim.Adam(model.parameters(), lr=lr)\n"
            "    if state:\n        optimizer.load_state_dict(state)\n"
            "    s = lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 4) if not state else None\n"
            "    for i in range(4):\n        step()\n        if s: s.step()\n"
            "    return optimizer.state_dict()\n"
            "run(0.01, run(0.1))",
            ("learning-rate-zero", "warning", [15]),
            id="the same by one function, run again",
        ),
        pytest.param(
            "for i in range(4):\n    model.train()\n    step()\nmodel.eval()\nfor i in range(4): step()",
            ("trained-in-evaluation", "warning", [14]),
            id="training that goes on after an evaluation",
        ),
        pytest.param(
            "parts = [torch.optim.SGD(one.parameters(), lr=0.1) for one in (trunk, head)]\n"
            "for i in range(4): model.train(); step()\nmodel.eval()\n"
            "for i in range(4):\n    step()\n    for part in parts: part.step()",
            ("trained-in-evaluation", "warning", [13]),
            id="training that goes on by several optimizers, told once",
        ),
        pytest.param(
            "trunk.requires_grad_(False)\ntrunk.eval()\nmodel.train()\nstep()",
            ("frozen-norm-learns", "warning", [13]),
            id="a frozen part that is put back",
        ),
        pytest.param(
            "for i in range(2): model.train(); step(); model.eval()\ntrunk.requires_grad_(False)\nmodel.train()\n"
            "for i in range(4): step()",
            ("frozen-norm-learns", "warning", [13, 12]),
            id="a part that was trained, frozen, and goes on learning statistics",
        ),
        pytest.param(
            "for i in range(2): step()\nfor p in trunk.parameters(): p.requires_grad = False\n"
            "for i in range(4): step()",
            ("frozen-norm-learns", "warning", [12]),
            id="the same without a call of train()",
        ),
        pytest.param(
            "trunk.requires_grad_(False)\nfor i in range(4): step()",
            ("frozen-norm-learns", "warning", [11]),
            id="a part that was frozen from the beginning",
        ),
        pytest.param(
            "model(x); trunk.eval(); trunk(x); model.train(); model(x); trunk.requires_grad_(False)\n"
            "for i in range(4): step()",
            ("frozen-norm-learns", "warning", [11]),
            id="a part that was evaluated once, and frozen later",
        ),
        pytest.param(
            "trunk.requires_grad_(False)\nfor i in range(4): model.train(); step(); trunk.eval(); head.eval()",
            ("frozen-norm-learns", "warning", [11, 12]),
            id="a frozen part that is set to evaluation for an evaluation only",
        ),
        pytest.param(
            "with torch.no_grad(): trunk(x)\ntrunk.requires_grad_(False).eval()\nmodel.train()\nstep()",
            ("frozen-norm-learns", "warning", [13]),
            id="a part that learned statistics before it was frozen",
        ),
        pytest.param(
            "model(x)\ntrunk.eval()\nfor p in trunk.parameters(): p.requires_grad = False\n"
            "for i in range(2):\n    model.train()\n    step()",
            ("frozen-norm-learns", "warning", [15]),
            id="a part that was frozen after it was set to evaluation",
        ),
    ],
)
def test_the_line_to_change_is_the_cause(source: str, expected: tuple[str, str, list[int]]) -> None:
    assert said(source) == [expected]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(
            "for i in range(4): model.train(); step()\nmodel.eval()\n"
            "with torch.no_grad(): model(x)\n"
            "for sample in range(3):\n    optimizer = torch.optim.Adam(model.parameters())\n"
            "    for i in range(4): optimizer.zero_grad(); model(x).exp().sum().backward(); optimizer.step()",
            id="an evaluated model that is adapted in its mode, by optimizers made for that",
        ),
        pytest.param(
            "s = lr_scheduler.LambdaLR(optimizer, lambda i: i / 10)\nfor i in range(6): step(); s.step()",
            id="a warm-up from zero",
        ),
        pytest.param(
            "for lr in (0.0, 0.1):\n    optimizer = torch.optim.SGD(model.parameters(), lr=lr)\n"
            "    for i in range(4): step()",
            id="a rate of zero among several that are tried",
        ),
        pytest.param(
            "old = torch.optim.SGD(model.parameters(), lr=0.1)\n"
            "s = lr_scheduler.LinearLR(old, 1.0, 0.0, 4)\n"
            "for i in range(4): optimizer = old; step(); s.step()\n"
            "optimizer = torch.optim.SGD(model.parameters(), lr=0.01)\n"
            "optimizer.load_state_dict(old.state_dict())\n"
            "for group in optimizer.param_groups: group['lr'] = 0.01\n"
            "for i in range(6): step()",
            id="a rate that is set again after a state was loaded",
        ),
        pytest.param(
            "s = lr_scheduler.LambdaLR(optimizer, lambda i: 0.5 ** (i // 3))\nfor i in range(6): step(); s.step()",
            id="a decay in steps",
        ),
        pytest.param(
            "optimizer.add_param_group({'params': [torch.ones(1, requires_grad=True)], 'lr': 0.0})\n"
            "for i in range(6): step()",
            id="one group of rate zero",
        ),
        pytest.param(
            "for i in range(4):\n    model.train(); step(); model.eval()\n    with torch.no_grad(): model(x)",
            id="an evaluation in each round",
        ),
        pytest.param(
            "for i in range(4):\n    trunk.requires_grad_(False); step()\n    trunk.requires_grad_(True); step()",
            id="a part that is frozen for every other step",
        ),
        pytest.param(
            "trunk.requires_grad_(False)\nfor i in range(4):\n    step()\n"
            "    with torch.no_grad(): trunk[1].weight.mul_(0.9)",
            id="a frozen part that is an average",
        ),
        pytest.param(
            "step(); trunk.requires_grad_(False); trunk.train()\nfor i in range(4): step()",
            id="statistics of a frozen part that are to be learned",
        ),
        pytest.param("trunk[1].eval()\nfor i in range(4): step()", id="batch norms alone in evaluation"),
        pytest.param(
            "trunk.requires_grad_(False)\nfor i in range(4): model.train(); trunk.eval(); step()",
            id="a frozen part that is kept",
        ),
    ],
)
def test_it_is_silent_where_that_is_meant(source: str) -> None:
    assert said(source) == []


GROUPS = """
optimizer = torch.optim.SGD([{{"params": trunk.parameters(), "lr": {}}}, {{"params": head.parameters()}}], lr=0.1)
for i in range(6):
    {}
    step()
"""


@pytest.mark.parametrize("rate", ["0.0", "0"])
def test_a_group_that_was_made_with_a_rate_of_zero_is_a_note(rate: str) -> None:
    assert said(GROUPS.format(rate, "pass")) == [("learning-rate-zero", "note", [12])]
    schedule = "s = lr_scheduler.CosineAnnealingLR(optimizer, 4)\n"
    source = GROUPS.format(rate, "s.step() if i else None").replace("for i", schedule + "for i")
    assert said(source) == [("learning-rate-zero", "note", [12])]


@pytest.mark.parametrize(
    ("rate", "first"),
    [
        ("0.01", "pass"),
        ("0.0", "optimizer.param_groups[0]['lr'] = 0.01 * (i > 2)"),
        ("0.0", "trunk.requires_grad_(False)"),
    ],
)
def test_a_group_that_has_a_rate_later_or_is_frozen_is_none(rate: str, first: str) -> None:
    assert "learning-rate-zero" not in [code for code, *_ in said(GROUPS.format(rate, first))]


def test_fine_tuning_a_model_of_batch_norms_in_evaluation_is_a_note() -> None:
    source = "model = nn.Sequential(trunk, head[1])\nmodel.eval()\nfor i in range(4): step()"
    assert said(source) == [("trained-in-evaluation", "note", [12])]


def test_what_is_set_to_evaluation_in_the_middle_for_its_batch_norms_is_a_note() -> None:
    model = "model = trunk\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nfor i in range(3): step()\n"
    assert said(model + "model.eval()\nfor i in range(4): step()") == [("trained-in-evaluation", "note", [14])]
    evaluated = model + "model.eval()\nwith torch.no_grad(): model(x)\nfor i in range(4): step()"
    assert said(evaluated) == [("trained-in-evaluation", "warning", [14])]


def test_a_warm_up_whose_first_step_finds_no_gradients_is_no_trouble() -> None:
    source = (
        "s = lr_scheduler.LambdaLR(optimizer, lambda i: i / 10)\nfor i in range(6): optimizer.step(); s.step(); step()"
    )
    report = build(recorded(HEAD + source))
    assert (report.faults, said(source)) == ((), [])
