"""Hooks that run once a gradient is there, and take the parameter that they are given for it."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
"""
TAIL = """
for p in net.parameters():
    p.register_post_accumulate_grad_hook(hook)
for k in range(3):
    optimizer.zero_grad()
    net(torch.randn(4, 3)).pow(2).mean().backward()
    optimizer.step()
"""
TAKEN = {
    "is wrapped": (
        "import functools\n"
        "def timed(function):\n"
        "    @functools.wraps(function)\n"
        "    def wrapper(*args):\n"
        "        return function(*args)\n"
        "    return wrapper\n"
        "@timed\n"
        "def hook(grad):\n"
        "    grad /= 4  # here"
    ),
    "divides": "def hook(grad):\n    grad /= 4  # here\n    return grad",
    "clips": "def hook(grad):\n    grad.clamp_(-1, 1)  # here",
    "clips by a function": "def hook(g):\n    torch.clamp_(g, -1, 1)  # here",
    "writes a part": "def hook(grad):\n    if grad.dim() == 2:\n        grad[0] = 0  # here",
    "writes a view": "def hook(grad):\n    flat = grad.view(-1)\n    flat.mul_(0.5)  # here",
    "writes to out": "def hook(grad):\n    torch.mul(grad, 0.5, out=grad)  # here",
    "a lambda": "hook = lambda grad: grad.mul_(0.5)  # here",
    "a function's name says it": "def scale_gradients(t):\n    t.mul_(0.5)  # here\nhook = scale_gradients",
    "returns another": "def hook(grad):\n    return grad / 4  # here",
    "a lambda that returns another": "hook = lambda grad: grad.clamp(-1, 1)  # here",
}
MEANT = {
    "writes the gradient": "def hook(param):\n    param.grad /= 4",
    "writes the gradient under a misleading name": "def hook(grad):\n    grad.grad.div_(4)",
    "steps by hand": "def hook(p):\n    p.sub_(0.1 * p.grad)\n    p.grad = None",
    "applies gradients by hand": "def hook(grad):\n    grad.add_(grad.grad, alpha=-0.1)",
    "clips weights": "def clip(p):\n    p.clamp_(-1, 1)\nhook = clip",
    "clips weights after a gradient": "def clamp_after_grad(p):\n    p.clamp_(-1, 1)\nhook = clamp_after_grad",
    "decays weights": "hook = lambda weight: weight.mul_(0.99)",
    "an optimizer's step": """
steps = {p: torch.optim.SGD([p], lr=0.1) for p in net.parameters()}
def average_grad_step(grad):
    steps[grad].step()
    steps[grad].zero_grad()
hook = average_grad_step
""",
    "looks only": "seen = []\ndef hook(grad):\n    seen.append(grad.shape)\n    return grad",
    "writes what it computed": "seen = []\ndef hook(grad):\n    seen.append(grad.abs().clamp_(0, 1))",
}


def found(source: str) -> list[Answer]:
    return [one for one in build(recorded(HEAD + source + TAIL)).answers if one.code == "hook-takes-parameter"]


@pytest.mark.parametrize("case", TAKEN)
def test_a_hook_that_takes_the_parameter_for_its_gradient(case: str) -> None:
    (answer,) = found(TAKEN[case])
    source = HEAD + TAKEN[case] + TAIL
    registered = line_of(source, "register_post_accumulate_grad_hook")
    assert [cause.line for cause in answer.causes] == [line_of(source, "# here"), registered]
    assert answer.severity == "warning"
    assert f"Line {answer.causes[0].line}: " in answer.text


@pytest.mark.parametrize("case", MEANT)
def test_a_hook_that_means_the_parameter_or_writes_its_gradient(case: str) -> None:
    assert found(MEANT[case]) == []


@pytest.mark.parametrize("case", ["divides", "returns another"])
def test_a_hook_on_the_gradient_itself_is_another_matter(case: str) -> None:
    tail = TAIL.replace("register_post_accumulate_grad_hook", "register_hook")
    answers = build(recorded(HEAD + TAKEN[case] + tail)).answers
    assert not [one for one in answers if one.code == "hook-takes-parameter"]
