"""Loops that were to freeze parameters and came to none, and those that did, were not run, or may mean to find none."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

NET = """import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4)), nn.Linear(4, 1)
    def forward(self, x):
        return self.head(self.body(x))
model, OFF = Net(), False
KEY = "backbone"
NONE = []
FREEZES
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(2):
    opt.zero_grad()
    model(torch.ones(2, 3)).sum().backward()
    opt.step()
"""
OWN = "for p in model.body.parameters(recurse=False):  # chooses\n    p.requires_grad = False"
BY_NAME = "for name, p in model.named_parameters():\n    if TEST:  # chooses\n        p.requires_grad_(False)"
CONTEXT = """class Frozen:
    def __init__(self, *modules):
        self.params = [p for m in modules for p in m.parameters(recurse=False)]  # chooses
    def __enter__(self):
        for p in self.params:
            p.requires_grad_(False)
    def __exit__(self, *_):
        for p in self.params:
            p.requires_grad_(True)
with Frozen(model.body):
    model(torch.ones(2, 3)).sum().backward()"""
CALLED = "def freeze(net, key):\n    " + BY_NAME.replace("model", "net").replace("\n", "\n    ").replace(
    "TEST", "name.startswith(key)"
)


def program(freezes: str) -> str:
    return NET.replace("FREEZES", freezes)


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "nothing-frozen" for cause in one.causes]


@pytest.mark.parametrize(
    "freezes",
    [
        OWN,
        OWN.replace("parameters(recurse=False)", "_parameters.values()"),
        OWN.replace("p in model", "_, p in model").replace("parameters(", "named_parameters("),
        "def freeze(net):\n    " + OWN.replace("model.body", "net").replace("\n", "\n    ") + "\nfreeze(model.body)",
        CONTEXT,
        BY_NAME.replace("TEST", 'name.startswith("backbone")'),
        BY_NAME.replace("TEST", '"encoder" in name or "embed" in name'),
        BY_NAME.replace("TEST", 'name in ["body.0", "body.2"]'),
        BY_NAME.replace("TEST", "name.startswith(KEY)"),
        BY_NAME.replace("TEST", 'any(one in name for one in ["conv", "stem"])'),
        BY_NAME.replace("named_parameters", "named_children")
        .replace("TEST", 'name == "backbone"')
        .replace("p.requires_grad_(False)", "for q in p.parameters():\n            q.requires_grad_(False)"),
    ],
)
def test_what_chooses_nothing_is_the_cause(freezes: str) -> None:
    source = program(freezes)
    assert lines(source) == [line_of(source, "# chooses")]


def test_the_call_that_gives_the_name_is_a_cause_too() -> None:
    source = program(f"{CALLED}\nfreeze(model, 'backbone')")
    assert lines(source) == [line_of(source, "# chooses"), line_of(source, "freeze(model, 'b")]


@pytest.mark.parametrize(
    "freezes",
    [
        OWN.replace("recurse=False", ""),
        OWN.replace("model.body.", "model.body[0]."),  # it has parameters of its own
        f"if OFF:\n    {OWN}".replace("\n    p.", "\n        p."),  # it was not run
        f"def freeze():\n    {OWN}".replace("\n    p.", "\n        p."),
        OWN.replace("model.body", "nn.Tanh()"),  # of something that has none at all
        CONTEXT.replace("recurse=False", ""),
        BY_NAME.replace("TEST", 'name.startswith("body")'),
        BY_NAME.replace("TEST", 'OFF and name.startswith("body")'),
        BY_NAME.replace("TEST", "any(one in name for one in NONE)"),
        BY_NAME.replace("TEST", "p.dtype == torch.int64"),
        BY_NAME.replace("TEST", '"head" not in name and "body" not in name'),
        f"{CALLED}\nfreeze(model, 'body')",
        f"{CALLED}\nfreeze(model.body, '0.')",
        "model.head.requires_grad_(False)\n" + BY_NAME.replace("TEST", '"adapter" in name'),
    ],
)
def test_what_freezes_or_may_find_none_is_silent(freezes: str) -> None:
    assert lines(program(freezes)) == []


def test_what_was_frozen_for_a_pass_alone_has_no_gradient_since_it_was_cleared() -> None:
    source = program(CONTEXT.replace("recurse=False", ""))
    passes = "model(torch.ones(2, 3)).sum().backward()\nmodel.zero_grad()\nwith Frozen"
    looks = "    model(torch.ones(2, 3)).sum().backward()\nleft = model.body[0].weight.grad\nopt ="
    source = source.replace("with Frozen", passes).replace("    model(torch.ones(2, 3)).sum().backward()\nopt =", looks)
    codes = {one.code for one in build(recorded(source)).answers}
    assert "grad-none-cleared" in codes
    assert "grad-none-unreached" not in codes
