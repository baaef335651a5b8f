"""Parameters that a function leaves frozen, and names that stand for another tensor than the optimizer's."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = """\
import torch
from torch import nn
body, head = nn.Linear(2, 2), nn.Linear(2, 1)
optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
x = torch.ones(3, 2)
"""
TRAINS = """
for step in range(6):
    optimizer.zero_grad()
    head(body(x)).sum().backward()
    optimizer.step()
    if step == 2:
        other()
"""


def said(program: str) -> list[tuple[str, list[int]]]:
    codes = ("left-frozen", "parameter-replaced", "never-stepped")
    answers = build(recorded(program)).answers
    return [(one.code, [cause.line for cause in one.causes]) for one in answers if one.code in codes]


def test_an_attack_that_leaves_a_part_frozen() -> None:
    program = """
def other():
    for p in body.parameters():
        p.requires_grad = False
    y = x.clone().requires_grad_()
    head(body(y)).sum().backward()
    return y.grad.sign()
"""
    assert said(HEAD + program + TRAINS) == [("left-frozen", [9])]


def test_a_helper_that_freezes_is_no_cause_but_who_calls_it_is() -> None:
    program = """
def set_all(module, on):
    for p in module.parameters():
        p.requires_grad_(on)

def other():
    set_all(body, False)
    y = x.clone().requires_grad_()
    head(body(y)).sum().backward()
"""
    assert said(HEAD + program + TRAINS) == [("left-frozen", [12])]
    phase = program.replace("    y = x.clone()", "    optimizer.step()\n    y = x.clone()")
    assert said(HEAD + phase + TRAINS) == []


@pytest.mark.parametrize(
    "function",
    [
        "    body.requires_grad_(False)\n    y = x.clone().requires_grad_()\n    head(body(y)).sum().backward()\n"
        "    body.requires_grad_(True)",
        "    body.requires_grad_(False)",  # from then on the head alone is trained
        # a phase of its own
        "    body.requires_grad_(False)\n    head(body(x)).sum().backward()\n    optimizer.step()",
    ],
)
def test_what_is_set_back_or_frozen_for_training_is_no_finding(function: str) -> None:
    assert said(f"{HEAD}\ndef other():\n{function}\n{TRAINS}") == []


def test_a_teacher_that_the_training_after_it_leaves_alone_is_no_finding() -> None:
    program = """
def train(model, steps):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()

def distil(student):
    body.requires_grad_(False)
    (student(x) - body(x)).pow(2).mean().backward()

student = nn.Linear(2, 2)
train(body, 4)
distil(student)
train(student, 4)
"""
    assert said(HEAD + program) == []
    assert said(HEAD + program + "train(lambda_ := nn.Sequential(body, student), 4)\n") == [("left-frozen", [15])]


def test_a_leaf_that_takes_the_name_of_the_optimizers() -> None:
    program = """\
import torch
w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.Adam([w], lr=0.1)
for step in range(5):
    optimizer.zero_grad()
    w.pow(2).sum().backward()
    optimizer.step()
    w = (w / w.norm()).detach().requires_grad_()
"""
    assert said(program) == [("parameter-replaced", [8])]
    follows = "    optimizer = torch.optim.Adam([w], lr=0.1)\n"
    assert said(program + follows) == []


def test_a_parameter_of_a_module_that_each_step_makes_anew() -> None:
    program = """\
import torch
net = torch.nn.Linear(3, 3, bias=False)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(5):
    optimizer.zero_grad()
    net(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    net.weight = torch.nn.Parameter(net.weight.detach().clamp(-1, 1))
"""
    assert said(program) == [("parameter-replaced", [8])]
    assert said(program.replace("net.weight = torch.nn.Parameter", "net.weight.data.copy_")) == []


def test_a_parameter_made_of_a_name_is_put_down_to_the_statement_that_makes_it() -> None:
    program = """\
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Linear(3, 3)
    def forward(self, x):
        weight = self.conv.weight.relu()
        self.conv.weight = torch.nn.Parameter(weight)
        return self.conv(x)
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(5):
    optimizer.zero_grad()
    net(torch.ones(2, 3)).sum().backward()
    optimizer.step()
"""
    assert ("parameter-replaced", [8]) in said(program)
    kept = program.replace("self.conv.weight = torch.nn.Parameter(weight)", "weight = torch.nn.Parameter(weight)")
    assert "parameter-replaced" not in [code for code, _ in said(kept)]


def test_weights_that_an_inner_loop_trains_without_writing_them_are_no_finding() -> None:
    program = """\
import torch
inner, rate = torch.nn.Linear(2, 1, bias=False), torch.nn.Parameter(torch.tensor(0.1))
outer = torch.optim.Adam([rate], lr=0.1)
x = torch.ones(3, 2)
for step in range(4):
    (slope,) = torch.autograd.grad(inner(x).pow(2).sum(), inner.weight, create_graph=True)
    outer.zero_grad()
    (x @ (inner.weight - rate * slope).T).pow(2).sum().backward()
    outer.step()
"""
    assert said(program) == []
    only_measured = program.replace("x @ (inner.weight - rate * slope).T", "inner(x) * rate")
    assert said(only_measured) == [("never-stepped", [3])]


PHASES = """\
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(2, 2), nn.Linear(2, 5)
    def replace_head(self, n):
        self.head = nn.Linear(2, n)
    def forward(self, x):
        return self.head(self.body(x))
def make(net):
    return torch.optim.SGD(net.parameters(), lr=0.1)
def fit(net, optimizer):
    for step in range(4):
        optimizer.zero_grad()
        net(torch.ones(3, 2)).sum().backward()
        optimizer.step()
net = Net()
fit(net, make(net))
optimizer = make(net)
net.replace_head(3)
fit(net, optimizer)
"""


def test_the_last_optimizer_made_before_a_head_was_replaced() -> None:
    assert said(PHASES) == [("never-stepped", [8, 20, 21])]
    once = PHASES.replace("fit(net, make(net))\n", "\n")
    assert said(once) == [("never-stepped", [20, 8, 21])]
    in_order = PHASES.replace(
        "optimizer = make(net)\nnet.replace_head(3)\n", "net.replace_head(3)\noptimizer = make(net)\n"
    )
    assert said(in_order) == []
