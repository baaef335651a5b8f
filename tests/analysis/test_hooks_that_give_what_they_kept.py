"""Hooks that give what they kept of an earlier pass: told where they do so to the end, and nothing else is meant."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
kept = {}
HOOKS
for step in range(5):
    x, y = torch.randn(6, 4), torch.randn(6, 1)
    optimizer.zero_grad()
    loss = (net(x) - y).pow(2).mean()
    loss.backward()
    optimizer.step()
"""
FIRST = """
def first(name, grad):
    if name not in kept:
        kept[name] = grad.clone()
    RETURN
for name, p in net.named_parameters():
    p.register_hook(lambda grad, name=name: first(name, grad))  # here
"""
METHOD = """
class Watch:
    def __init__(self):
        self.first = None
    def __call__(self, grad):
        if self.first is None:
            self.first = grad.detach().clone()
        return self.first  # here
net[0].weight.register_hook(Watch())
"""
SETDEFAULT = """
net[0].weight.register_hook(lambda grad: kept.setdefault("w", grad))  # here
"""
COPY = """
def hook(grad):
    kept.setdefault("w", grad.clone())
    return kept["w"].clone()  # here
net[2].weight.register_hook(hook)
"""
ACCUMULATED = """
def hook(p):
    if p not in kept:
        kept[p] = p.grad.clone()
    p.grad = kept[p].clone()  # here
for p in net.parameters():
    p.register_post_accumulate_grad_hook(hook)
"""
COPIED_INTO = """
def hook(p):
    if p in kept:
        p.grad.copy_(kept[p])  # here
    else:
        kept[p] = p.grad.clone()
for p in net.parameters():
    p.register_post_accumulate_grad_hook(hook)
"""
MODULE = """
def hook(module, grad_input, grad_output):
    if module not in kept:
        kept[module] = grad_input
    return kept[module]  # here
net[2].register_full_backward_hook(hook)
"""


def found(hooks: str) -> list[Answer]:
    return [one for one in build(recorded(program(hooks))).answers if one.code == "hook-gives-kept"]


def program(hooks: str) -> str:
    return PROGRAM.replace("HOOKS", hooks.strip("\n"))


SURPRISING = {
    "a helper that returns": FIRST.replace("RETURN", "return kept[name]"),
    "an object": METHOD,
    "setdefault": SETDEFAULT,
    "a copy of it": COPY,
    "set when accumulated": ACCUMULATED,
    "copied into when accumulated": COPIED_INTO,
    "of a module": MODULE,
}


@pytest.mark.parametrize("case", SURPRISING)
def test_the_line_that_gives_it(case: str) -> None:
    (answer,) = found(SURPRISING[case])
    assert answer.causes[0].line == line_of(program(SURPRISING[case]), "# here")


HEALTHY = {
    "nothing is returned": FIRST.replace("RETURN", "return None"),
    "the gradient itself is returned": FIRST.replace("RETURN", "return grad"),
    "a difference is returned": FIRST.replace("RETURN", "return grad - kept[name] / 10"),
    "the one before is returned": """
def hook(grad):
    before = kept.get("w", grad)
    kept["w"] = grad.clone()
    return before
net[0].weight.register_hook(hook)
""",
    "one is reused for a while": """
runs = []
def hook(grad):
    if len(runs) % 2 == 0:
        kept["w"] = grad.clone()
    runs.append(1)
    return kept["w"]
net[0].weight.register_hook(hook)
""",
    "a buffer that is filled": """
def hook(grad):
    if "w" not in kept:
        kept["w"] = torch.empty_like(grad)
    kept["w"].copy_(grad).mul_(0.5)
    return kept["w"]
net[0].weight.register_hook(hook)
""",
    "an average": """
def hook(grad):
    if "w" not in kept:
        kept["w"] = grad.clone()
    kept["w"].lerp_(grad, 0.1)
    return kept["w"]
net[0].weight.register_hook(hook)
""",
    "a gradient made outside": """
direction = torch.randn(8, 4)
net[0].weight.register_hook(lambda grad: direction)
""",
    "a name that says it": METHOD.replace(
        "net[0]", "def fixed(grad, watch=Watch()):\n    return watch(grad)\nnet[0]"
    ).replace("hook(Watch())", "hook(fixed)"),
    "clipped": "for p in net.parameters():\n    p.register_hook(lambda grad: grad.clamp(-1e-3, 1e-3))",
    "set when accumulated, to what it is": ACCUMULATED.replace(
        "p.grad = kept[p].clone()", "p.grad = p.grad - kept[p] / 9"
    ),
    "of a module that looks alone": MODULE.replace("return kept[module]", "kept[module][0].norm()"),
    "of a module that is removed": MODULE + "handle = net[0].register_full_backward_hook(hook)\nhandle.remove()\n",
}


@pytest.mark.parametrize("case", HEALTHY)
def test_what_gives_another_gradient_each_time_or_means_it(case: str) -> None:
    assert found(HEALTHY[case]) == []


def test_one_pass_tells_nothing() -> None:
    source = program(SURPRISING["an object"]).replace("range(5)", "range(1)")
    assert [one for one in build(recorded(source)).answers if one.code == "hook-gives-kept"] == []
