"""Weights that are copied anew for each task, while an optimizer steps others beside them and never these."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

META = """import copy, torch
from torch import nn
from torch.func import functional_call
torch.manual_seed(0)
net, rate = nn.Linear(2, 1), nn.Parameter(torch.tensor(0.1))
optimizer = torch.optim.Adam([*net.parameters(), rate], lr=1e-2)
for _ in range(4):
    x, y = torch.randn(10, 2), torch.randn(10, 1)
    fast = copy.deepcopy(dict(net.named_parameters()))  # copied
    loss = (functional_call(net, fast, (x,)) - y).pow(2).mean()
    grads = torch.autograd.grad(loss, tuple(fast.values()), create_graph=True)
    fast = {k: w - rate * g for (k, w), g in zip(fast.items(), grads)}
    loss = (functional_call(net, fast, (x,)) - y).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
COPY = "copy.deepcopy(dict(net.named_parameters()))"
STEP = "    optimizer.step()\n"


def warned(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    found = [one for one in answers if one.code == "leaf-unreached" and one.severity == "warning"]
    return [cause.line for one in found for cause in one.causes]


@pytest.mark.parametrize(
    ("old", "new"),
    [("", ""), (COPY, "{k: copy.deepcopy(p) for k, p in net.named_parameters()}")],
)
def test_parameters_that_only_give_copies_are_told(old: str, new: str) -> None:
    source = META.replace(old, new, 1)
    assert warned(source) == [line_of(source, "# copied")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (COPY, "dict(net.named_parameters())"),
        (  # first-order meta-learning hands the gradients on
            STEP,
            "    for p, w in zip(net.parameters(), grads):\\n        p.grad = w.detach()\\n" + STEP,
        ),
        (  # each round goes on from the mean of what the tasks have come to
            STEP,
            STEP + "    for p, w in zip(net.parameters(), fast.values()):\\n        p.data.lerp_(w.detach(), 0.5)\\n",
        ),
        ("range(4)", "range(2)"),
    ],
)
def test_parameters_that_are_given_others_values_are_none(old: str, new: str) -> None:
    assert old in META
    assert warned(META.replace(old, new.replace("\\n", "\n"), 1)) == []


def test_what_is_copied_once_is_none() -> None:
    made, loop = META.split("for _ in range(4):\n")
    source = f"{made}begin = {COPY}\nfor _ in range(4):\n{loop.replace(COPY, 'begin')}"
    assert warned(source) == []


def test_a_comprehensions_name_is_no_parameters() -> None:
    source = """
    import torch
    w, v, rate = (torch.nn.Parameter(torch.ones(())) for _ in range(3))
    optimizer = torch.optim.SGD([w, v, rate], lr=0.1)
    for _ in range(4):
        fast = [t.data.requires_grad_(True) for t in (w, v)]
        for _ in range(2):
            grads = torch.autograd.grad((fast[0] * fast[1] - 2).pow(2), fast, create_graph=True)
            fast = [t - rate * g for t, g in zip(fast, grads)]
        loss = (fast[0] * fast[1] - 2).pow(2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    """
    answers = build(recorded(source)).answers
    assert [one.code for one in answers if one.code in ("leaf-unreached", "parameter-replaced")] == ["leaf-unreached"]
