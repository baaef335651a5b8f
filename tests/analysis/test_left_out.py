"""Leaves that are kept out of training on purpose are no warning; the same cut before what is trained is one."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import recorded

HEAD = """
import copy
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(2, 3)
net, other = nn.Linear(3, 3), nn.Linear(3, 3)
"""
TRAINED = """
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(3):
    with torch.no_grad():
        goal = other(x)
    loss = (net(x) - goal).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
"""
BY_HAND = """
for step in range(3):
    with torch.no_grad():
        goal = other(x)
    loss = (net(x) - goal).pow(2).mean()
    net.zero_grad()
    loss.backward()
    with torch.no_grad():
        for p in net.parameters():
            p -= 0.1 * p.grad
"""
AVERAGE = """
    with torch.no_grad():
        for mean, p in zip(other.parameters(), net.parameters()):
            mean.mul_(0.9).add_(p, alpha=0.1)
"""
AVERAGE_OF_DATA = """
    for mean, p in zip(other.parameters(), net.parameters()):
        mean.data.copy_(mean.data * 0.9 + p.data * 0.1)
"""
SYNCHRONISED = "    other.load_state_dict(net.state_dict())\n"
COPY = "other = copy.deepcopy(net)\n"
PRETRAINED = "other.load_state_dict({name: torch.ones_like(value) for name, value in net.state_dict().items()})\n"

MEANT = {
    "frozen encoder": TRAINED,
    "frozen encoder, detached": TRAINED.replace(
        "    with torch.no_grad():\n        goal = other(x)", "    goal = other(x).detach()"
    ),
    "target network": COPY + TRAINED + SYNCHRONISED,
    "teacher without an optimizer": BY_HAND + AVERAGE,
    "average of data without an optimizer": BY_HAND + AVERAGE_OF_DATA,
    "target without an optimizer": BY_HAND + SYNCHRONISED,
    "best copy without an optimizer": COPY + BY_HAND,
    "in the optimizer, and averaged": TRAINED.replace(
        "SGD(net.", "SGD([*net.parameters(), *other.parameters()], lr=1e-3)  #"
    )
    + AVERAGE,
}
BUGS = {
    "in the optimizer": TRAINED.replace("SGD(net.parameters()", "SGD([*net.parameters(), *other.parameters()]"),
    "added to the optimizer later": TRAINED.replace(
        "for step", "opt.add_param_group({'params': other.parameters()})\nfor step"
    ),
    "nothing says that it is meant": BY_HAND,
    "loaded once from a file": PRETRAINED + BY_HAND,
    "a copy that is trained elsewhere": COPY + "y = other(x)\n" + BY_HAND,
    "values that left torch": TRAINED.replace(
        "    with torch.no_grad():\n        goal = other(x)", "    goal = torch.tensor(other(x).tolist())"
    ),
}


def unreached(source: str) -> list[Answer]:
    return [answer for answer in build(recorded(HEAD + source)).answers if answer.code == "leaf-unreached"]


@pytest.mark.parametrize("case", MEANT)
def test_what_is_kept_out_on_purpose_is_a_note(case: str) -> None:
    answers = build(recorded(HEAD + MEANT[case])).answers
    assert {answer.severity for answer in answers} == {"note"}
    (told,) = unreached(MEANT[case])
    assert "other.weight and other.bias no gradient" in told.text
    assert ", and " in told.text.partition("cut at")[2]


@pytest.mark.parametrize("case", BUGS)
def test_what_is_trained_and_cut_off_is_a_warning(case: str) -> None:
    (told,) = unreached(BUGS[case])
    assert told.severity == "warning"
    assert "other.weight and other.bias no gradient" in told.text


def test_a_template_whose_copy_is_trained_is_a_note() -> None:
    program = """
import copy, torch
template = torch.nn.Linear(2, 1)
model = copy.deepcopy(template); optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    model(torch.ones(3, 2)).sum().backward()
    optimizer.step()
"""

    answers = build(recorded(program)).answers
    assert [one.severity for one in answers if one.code == "leaf-unreached"] == ["note"]


def test_what_an_optimizer_would_have_trained_next_is_a_note_where_an_error_came_first() -> None:
    source = (
        HEAD
        + """
critic, maker = torch.optim.SGD(net.parameters(), lr=0.1), torch.optim.SGD(other.parameters(), lr=0.1)
with torch.no_grad():
    fake = other(x)
net(fake).sum().backward()
critic.step()
try:
    net.weight.clamp_(-1, 1)
except RuntimeError:
    pass
"""
    )
    answers = [answer for answer in build(recorded(source)).answers if answer.code == "leaf-unreached"]
    assert [answer.severity for answer in answers] == ["note"]
    without = source.replace("net.weight.clamp_", "net.weight.data.clamp_")
    answers = [answer for answer in build(recorded(without)).answers if answer.code == "leaf-unreached"]
    assert [answer.severity for answer in answers] == ["warning"]


def test_the_average_that_torch_keeps_of_a_model_is_not_told_of() -> None:
    program = """
import torch
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
averaged = torch.optim.swa_utils.AveragedModel(model)
for step in range(4):
    optimizer.zero_grad()
    model(torch.ones(3, 2)).sum().backward()
    optimizer.step()
    averaged.update_parameters(model)
"""

    assert "leaf-unreached" not in [one.code for one in build(recorded(program)).answers]
