"""Optimizers that step inside backward, by hooks: what is said where another pass needed the old values."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
from torch import nn
torch.manual_seed(0)
trunk, one, two = nn.Linear(3, 3), nn.Linear(3, 1), nn.Linear(3, 1)
net = nn.ModuleList([nn.Sequential(trunk, nn.Tanh(), nn.Linear(3, 3)), one, two])
optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in net.parameters()}
def update(p):
    optimizers[p].step()  # step
    optimizers[p].zero_grad()
def hooks():
    for p in net.parameters():
        p.register_post_accumulate_grad_hook(update)  # hook
x = torch.randn(4, 3)
def losses():
    h = net[0](x)
    return net[1](h).pow(2).sum(), net[2](h).pow(2).sum()
"""


def found(source: str) -> list[Answer]:
    return [one for one in build(recorded(HEAD + source)).answers if one.code == "inplace-error"]


@pytest.mark.parametrize(
    "source",
    [
        "hooks()\nfirst, second = losses()\nfirst.backward(retain_graph=True)  # pass\nsecond.backward()",
        "hooks()\nfirst, second = net[1](net[0](x)).sum(), net[2](net[0](x)).sum()\nfirst.backward()  # pass\n"
        "second.backward()",
        "hooks()\nfor k in range(3):\n    first, second = losses()\n    first.backward(retain_graph=True)  # pass\n"
        "    second.backward()",
    ],
)
def test_a_hook_that_steps_before_another_pass(source: str) -> None:
    (answer,) = found(source)
    lines = [line_of(HEAD + source, f"# {what}") for what in ("hook", "step", "pass")]
    assert [cause.line for cause in answer.causes] == lines
    assert answer.severity == "problem"


def test_what_a_write_that_was_seen_explains_is_said_once() -> None:
    source = "hooks()\nh = net[0](x).sigmoid()\nloss = net[1](h).sum()\nh.zero_()  # write\nloss.backward()"
    (answer,) = found(source)
    assert answer.causes[0].line == line_of(HEAD + source, "# write")


@pytest.mark.parametrize(
    "source",
    [
        "hooks()\nfor k in range(3):\n    sum(losses()).backward()",
        "hooks()\nfor k in range(3):\n    losses()[0].backward()\n    losses()[1].backward()",
    ],
)
def test_one_pass_a_graph_is_well(source: str) -> None:
    assert not [one for one in build(recorded(HEAD + source)).answers if one.severity in ("problem", "warning")]
