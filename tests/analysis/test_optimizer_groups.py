"""What optimizers are given: parameters more than once, and the group dictionaries of other optimizers."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

SHARED = """
import copy, torch
from torch import nn
trunk = nn.Linear(3, 3)
actor, critic = nn.Sequential(trunk, nn.Linear(3, 2)), nn.Sequential(trunk, nn.Linear(3, 1))
optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()])  # made
for step in range(3):
    optimizer.zero_grad()
    (actor(torch.rand(4, 3)).pow(2).sum() + critic(torch.rand(4, 3)).pow(2).sum()).backward()
    optimizer.step()
"""
GROUPS = """
import copy, torch
layer = torch.nn.Linear(3, 1)
groups = [{"params": [layer.weight], "weight_decay": 0.1}, {"params": [layer.bias]}]
first = torch.optim.Adam(groups, lr=0.001)  # the first
second = torch.optim.SGD(groups, lr=0.1)  # made
for optimizer in (first, second):
    optimizer.zero_grad()
    layer(torch.rand(4, 3)).pow(2).sum().backward()
    optimizer.step()
"""
LIST, SECOND = "[*actor.parameters(), *critic.parameters()]", "torch.optim.SGD(groups, lr=0.1)"


def found(source: str, code: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == code]


@pytest.mark.parametrize(
    ("given", "often"),
    [
        (LIST, "trunk.weight and trunk.bias twice"),
        ("[{'params': " + LIST + ", 'lr': 0.1}]", "trunk.weight and trunk.bias twice"),
        ("list(actor.parameters()) + [trunk.bias]", "trunk.bias twice"),
        ("[trunk.bias] * 3 + [trunk.weight]", "trunk.bias three times"),
    ],
)
def test_a_parameter_that_is_given_more_than_once(given: str, often: str) -> None:
    source = SHARED.replace(LIST, given)
    (answer,) = found(source, "parameter-held-twice")
    assert [cause.line for cause in answer.causes] == [line_of(source, "# made")]
    assert f"Adam is given {often}: each step updates" in answer.text


@pytest.mark.parametrize(
    "given",
    [f"list(dict.fromkeys({LIST}))", "nn.ModuleList([actor, critic]).parameters()", "set(" + LIST + ")"],
)
def test_a_parameter_that_is_given_once(given: str) -> None:
    assert not found(SHARED.replace(LIST, given), "parameter-held-twice")


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (SECOND, "SGD is made with lr=0.1 and has lr=0.001"),
        ("torch.optim.SGD(first.param_groups, lr=0.1)", "SGD is made with lr=0.1 and has lr=0.001"),
        ("torch.optim.AdamW(groups, lr=0.001, eps=0.1)", "AdamW is made with eps=0.1 and has eps=1e-08"),
    ],
)
def test_an_optimizer_on_the_dictionaries_of_another(second: str, says: str) -> None:
    source = GROUPS.replace(SECOND, second)
    (answer,) = found(source, "groups-of-another-optimizer")
    assert [cause.line for cause in answer.causes] == [line_of(source, "# made")]
    assert answer.text.startswith(f"Line {line_of(source, '# made')}: {says}")
    assert f"Adam of line {line_of(source, '# the first')}" in answer.text


@pytest.mark.parametrize(
    "second",
    [
        "torch.optim.SGD([{**group} for group in copy.deepcopy(groups)], lr=0.001)",
        "torch.optim.SGD([{'params': group['params']} for group in groups], lr=0.1)",
        "torch.optim.Adam(groups, lr=0.001)",
        "torch.optim.SGD(layer.parameters(), lr=0.1)",
    ],
    ids=["copies", "new ones", "the same settings", "no groups"],
)
def test_an_optimizer_with_groups_of_its_own(second: str) -> None:
    assert not found(GROUPS.replace(SECOND, second), "groups-of-another-optimizer")


def test_what_the_program_put_into_the_groups_itself_is_no_others() -> None:
    source = GROUPS.replace('"weight_decay": 0.1}', '"lr": 0.01}').replace("lr=0.1)", "lr=0.001)")
    assert not found(source, "groups-of-another-optimizer")
