"""A model of averaged weights is no way into the loss of the model that it averages."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
from torch import nn
net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
mean = torch.optim.swa_utils.AveragedModel(net)
optimizer = torch.optim.SGD(net.parameters(), 0.1)
for step in range(4):
    loss = net(torch.randn(4, 2)).pow(2).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    mean.update_parameters(net)
"""


def test_its_update_writes_nothing_of_the_trained_model() -> None:
    assert not [one for one in build(recorded(SOURCE)).answers if one.severity != "note"]


TEACHER = """
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
def train():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    teacher = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    teacher.requires_grad_(False)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for step in range(8):
        x = torch.randn(4, 2)
        with torch.no_grad():
            target = teacher(x)
        loss = (net(x) - target).pow(2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        teacher.update_parameters(net)
train()
"""


def test_a_frozen_teacher_whose_weights_are_averages_may_learn_statistics() -> None:
    said = [one.code for one in build(recorded(TEACHER)).answers]
    assert "frozen-norm-learns" not in said
    never_updated = TEACHER.replace("        teacher.update_parameters(net)\n", "")
    assert "frozen-norm-learns" in [one.code for one in build(recorded(never_updated)).answers]


MEAN_TEACHER = """
import copy, torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.student = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        self.teacher = TEACHER
    def loss(self, x):
        TARGET
        return (self.student(x) - target).pow(2).mean()
    def average(self):
        AVERAGES
both = Both()
optimizer = torch.optim.AdamW(HELD, lr=0.01)
for step in range(8):
    loss = both.loss(torch.randn(16, 4))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    both.average()
"""
LIBRARY = "AveragedModel(self.student, multi_avg_fn=get_ema_multi_avg_fn(0.9))"
COPY, UPDATE, ALL = "copy.deepcopy(self.student)", "self.teacher.update_parameters(self.student)", "both.parameters()"
LERP = "for a, b in zip(self.teacher.parameters(), self.student.parameters()): a.data.lerp_(b.data, 0.1)"
LERPS = (
    "own, weights = [p.data for p in self.teacher.parameters()], [p.data for p in self.student.parameters()]\n"
    "        torch._foreach_lerp_(own, weights, 0.1)"
)
BY_HAND = [
    LERP.replace("a.data.lerp_(b.data, 0.1)", form)
    for form in (
        "a.data.mul_(0.9).add_(b.data, alpha=0.1)",
        "a.data.copy_(0.9 * a.data + 0.1 * b.data)",
        "a.data = a.data * 0.9 + b.detach() * 0.1",
    )
]
COPIED = LERP.replace("a.data.lerp_(b.data, 0.1)", "a.data.copy_(b.data * 1.0)")
BACK = f"""{LERP}
        for a, b in zip(self.student.parameters(), self.teacher.parameters()): a.data.lerp_(b.data, 0.1)"""
TRACKED, NO_GRAD = "target = self.teacher(x + 0.1)", "with torch.no_grad(): target = self.teacher(x + 0.1)"


def taught(teacher: str, target: str, averages: str, held: str) -> tuple[list[Answer], str]:
    source = MEAN_TEACHER.replace("TEACHER", teacher).replace("TARGET", target)
    source = source.replace("AVERAGES", averages).replace("HELD", held)
    return [one for one in build(recorded(source)).answers if one.severity != "note"], source


@pytest.mark.parametrize(
    ("teacher", "averages"), [(LIBRARY, UPDATE), *((COPY, form) for form in (LERP, LERPS, *BY_HAND))]
)
def test_a_teacher_that_the_optimizer_trains_as_well_is_reported(teacher: str, averages: str) -> None:
    (answer,), source = taught(teacher, TRACKED, averages, ALL)
    assert answer.code == "average-trained"
    assert [cause.line for cause in answer.causes] == [line_of(source, "optimizer ="), line_of(source, TRACKED)]


@pytest.mark.parametrize(
    ("teacher", "target", "averages", "held"),
    [
        pytest.param(LIBRARY, NO_GRAD, UPDATE, ALL, id="no gradients come to it"),
        pytest.param(LIBRARY, TRACKED, UPDATE, "both.student.parameters()", id="no optimizer holds it"),
        pytest.param(f"{LIBRARY}.requires_grad_(False)", TRACKED, UPDATE, ALL, id="it is frozen"),
        pytest.param(COPY, TRACKED, "pass", ALL, id="two networks that learn from each other"),
        pytest.param(COPY, TRACKED, BACK, ALL, id="two that are drawn together"),
        pytest.param(COPY, TRACKED, COPIED, ALL, id="one that begins anew from the other"),
    ],
)
def test_a_teacher_that_is_an_average_only_is_right(teacher: str, target: str, averages: str, held: str) -> None:
    assert "average-trained" not in [one.code for one in taught(teacher, target, averages, held)[0]]


def test_that_no_gradient_comes_to_an_average_is_meant_even_where_an_optimizer_holds_it() -> None:
    asks = "print(sum(p.grad is not None for p in both.teacher.parameters()))"
    source = MEAN_TEACHER.replace("TEACHER", LIBRARY).replace("TARGET", NO_GRAD).replace("AVERAGES", UPDATE)
    for held in (ALL, "both.student.parameters()"):
        for end in ("", asks):
            answers = build(recorded(source.replace("HELD", held) + end)).answers
            assert [one.code for one in answers if one.severity != "note"] == []
    trained = source.replace(UPDATE, "pass").replace("HELD", ALL) + asks
    assert "grad-none-unreached" in [one.code for one in build(recorded(trained)).answers if one.severity != "note"]


SAMPLED = """
import copy, torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
net = nn.Linear(2, 2)
mean = {}
optimizer = torch.optim.SGD(net.parameters(), 0.1)
for step in range(4):
    x = torch.ones(4, 2)
    (net(x) - x).pow(2).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    {}
x = torch.ones(4, 2).requires_grad_()
slope = torch.autograd.grad((x - mean(x)).pow(2).sum(), x)[0]
"""
BY_HAND = """with torch.no_grad():
        for one, other in zip(mean.parameters(), net.parameters()):
            one.lerp_(other, 0.1)"""


@pytest.mark.parametrize(
    ("made", "updated"),
    [
        ("AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))", "mean.update_parameters(net)"),
        ("copy.deepcopy(net)", BY_HAND),
    ],
)
def test_an_average_is_not_told_to_have_got_no_gradient(made: str, updated: str) -> None:
    assert "leaf-unreached" not in [one.code for one in build(recorded(SAMPLED.format(made, updated))).answers]
    untouched = SAMPLED.format("copy.deepcopy(net)", "pass")
    assert "leaf-unreached" in [one.code for one in build(recorded(untouched)).answers]
