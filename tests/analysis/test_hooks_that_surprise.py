"""Hooks: the line that registers or returns is named where they do harm, and they are left alone where they do not."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

HEAD = """import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
w = torch.ones(3, requires_grad=True)
def train():
    net(torch.ones(2, 3)).pow(2).sum().backward()
"""


def found(source: str) -> list[Answer]:
    answers = build(recorded(HEAD + source)).answers
    return [answer for answer in answers if answer.code.startswith("hook-") and answer.severity != "note"]


HARMFUL = {
    "registered in a function of the loop": """
def step():
    for p in net.parameters():
        p.register_hook(lambda grad: grad.clamp(-1, 1))  # cause
    train()
for epoch in range(4):
    step()
""",
    "a module's, registered in each epoch": """
seen = []
for epoch in range(4):
    net[1].register_forward_hook(lambda module, args, output: seen.append(output.detach()))  # cause
    train()
""",
    "on another branch": """
for epoch in range(3):
    h = w * 2
    shown = h * 1
    h.register_hook(lambda grad: None)
    shown.register_hook(lambda grad: print(grad))  # cause
    h.exp().sum().backward()
""",
    "a mask that lets nothing through": """
class Freeze:
    def __init__(self, rows):
        self.mask = torch.zeros(4, 3)
    def __call__(self, grad):
        grad = grad * self.mask
        return grad  # cause
net[0].weight.register_hook(Freeze([1]))
for epoch in range(4):
    train()
""",
    "in place, on the branch of a sum": """
def damp(grad):
    grad *= 0.1  # cause
skip = w * 2
branch = skip.tanh()
branch.register_hook(damp)
(skip + branch).pow(2).sum().backward()
""",
    "an error": """
def damp(grad):
    return grad.reshape(7)  # cause
w.register_hook(damp)
w.exp().sum().backward()
""",
}


@pytest.mark.parametrize("case", HARMFUL)
def test_the_line_of_the_hook_is_the_cause(case: str) -> None:
    (answer,) = found(HARMFUL[case])
    line = line_of(HEAD + HARMFUL[case], "# cause")
    assert [cause.line for cause in answer.causes] == [line]
    assert answer.text.startswith(f"Line {line}: ")


MEANT = {
    "one that looks": "w.register_hook(lambda grad: print(grad.norm()))\n"
    "for epoch in range(4):\n    w.sum().backward()\n",
    "one for each activation": """
class Probe(nn.Module):
    def forward(self, x):
        x = x * 2
        x.register_hook(self.keep)
        return x
    def keep(self, grad):
        self.grad = grad
probe = Probe()
for epoch in range(4):
    probe(w).sum().backward()
""",
    "one for each layer": "for layer in (net[0], net[2]):\n"
    "    layer.register_forward_hook(lambda module, args, output: None)\ntrain()\n",
    "several at one time": "for scale in (0.5, 0.5, 0.5):\n    w.register_hook(lambda grad: grad * scale)\n"
    "w.sum().backward()\n",
    "one that is removed": "for epoch in range(4):\n    handle = w.register_hook(lambda grad: grad * 2)\n"
    "    w.sum().backward()\n    handle.remove()\n",
    "removed before any pass": "h = w * 2\nh.register_hook(lambda grad: grad).remove()\n(w * 3).sum().backward()\n",
    "a mask of some rows": "mask = torch.ones(4, 3)\nmask[0] = 0\n"
    "net[0].weight.register_hook(lambda grad: grad * mask)\n"
    "for epoch in range(4):\n    train()\n",
    "zeros that the text says": "net[0].weight.register_hook(lambda grad: torch.zeros_like(grad))\n"
    "for epoch in range(4):\n    train()\n",
    "clipping in place on a leaf": "net[0].weight.register_hook(lambda grad: grad.clamp_(-1, 1))\n"
    "for epoch in range(4):\n    train()\n",
    "in place, alone": "h = w.exp()\nh.register_hook(lambda grad: grad.mul_(0.5))\nh.pow(2).sum().backward()\n",
    "never run in a program without a pass": "h = w * 2\nh.register_hook(lambda grad: grad)\nprint(h.sum())\n",
    "an optimizer's step in backward": """
optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in net.parameters()}
def step(p):
    optimizers[p].step()
    optimizers[p].zero_grad()
for p in net.parameters():
    p.register_post_accumulate_grad_hook(step)
for epoch in range(4):
    train()
""",
}


@pytest.mark.parametrize("case", MEANT)
def test_what_is_meant_is_left_alone(case: str) -> None:
    assert found(MEANT[case]) == []


def test_what_a_hook_registers_that_is_registered_again_is_not_told_beside_it() -> None:
    source = """
import torch
from torch import nn
net = nn.Linear(2, 2)
def on_forward(module, args, out):
    if len(module._forward_hooks) > getattr(module, "known", 0):
        module.known = len(module._forward_hooks)
        module.weight.register_hook(lambda gradient: None)
for step in range(5):
    net.register_forward_hook(on_forward)
    net(torch.ones(1, 2)).sum().backward()
"""
    answers = [one for one in build(recorded(source)).answers if one.code == "hook-registered-again"]
    assert [[cause.line for cause in one.causes] for one in answers] == [[9]]


KEPT_BY_HOOKS = {
    "an argument that is bound": """
import functools
def record(act, grad):
    norms.append((act * grad).sum().item())
norms = []
for step in range(4):
    h = net[0](torch.ones(2, 3))
    h.register_hook(functools.partial(record, h))  # registers
    net[2](h).sum().backward()
""",
    "what was made from it": """
class Probe:
    def forward(self, x):
        h = net[0](x)
        out = net[2](h)
        def hook(grad):
            self.last = (out.detach().norm() * grad.norm()).item()  # reads
        h.register_hook(hook)  # registers
        return out
probe = Probe()
for step in range(4):
    probe.forward(torch.ones(2, 3)).sum().backward()
""",
}


@pytest.mark.parametrize("case", KEPT_BY_HOOKS)
def test_a_hook_that_keeps_its_own_tensor_is_told_where_it_is_registered(case: str):
    source = HEAD + KEPT_BY_HOOKS[case]
    (answer,) = found(KEPT_BY_HOOKS[case])
    assert answer.code == "hook-keeps-its-tensor"
    reads = [line_of(source, "# reads")] if "# reads" in source else []
    assert [cause.line for cause in answer.causes] == [line_of(source, "# registers"), *reads]
    assert "4 are still there" in answer.text


LET_GO = {
    "removed after the pass": """
for step in range(4):
    h = net[0](torch.ones(2, 3))
    handle = h.register_hook(lambda grad, h=h: print((grad * h).sum()))
    net[2](h).sum().backward()
    handle.remove()
""",
    "an object that has the last one only": """
class Cam:
    def save(self, module, args, output):
        self.act = output
        output.register_hook(self.keep)
    def keep(self, grad):
        self.grad = grad
net[0].register_forward_hook(Cam().save)
for step in range(4):
    train()
""",
    "all of one pass": """
losses = []
for step in range(4):
    h = net[0](torch.ones(2, 3))
    h.register_hook(lambda grad, h=h: print((grad * h).sum()))
    losses.append(net[2](h).sum())
torch.stack(losses).sum().backward()
""",
}


@pytest.mark.parametrize("case", LET_GO)
def test_a_hook_that_goes_with_its_tensor_is_left_alone(case: str):
    assert found(LET_GO[case]) == []


def test_a_hook_that_steps_in_the_middle_of_the_pass_is_not_told_as_a_missing_gradient():
    source = """
optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in net.parameters()}
def step(p):
    optimizers[p].step()
    optimizers[p].zero_grad()
for p in net.parameters():
    p.register_post_accumulate_grad_hook(step)
for epoch in range(4):
    train()
"""
    assert [one for one in build(recorded(HEAD + source)).answers if one.severity != "note"] == []


NESTED = """
deep = nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(4, 1))
def slow(model, by):
    for module in model.modules():
        for p in module.parameters():
            p.register_hook(lambda grad: grad * by)  # registers
slow(deep, 0.5)
for epoch in range(3):
    deep(torch.ones(2, 3)).sum().backward()
"""


def test_a_hook_is_told_that_loops_register_several_times_at_once():
    (answer,) = found(NESTED)
    assert answer.code == "hook-registered-again"
    assert [cause.line for cause in answer.causes] == [line_of(HEAD + NESTED, "# registers")]
    assert " 3 times on deep.0.0.weight" in answer.text


def test_a_loop_that_meets_each_parameter_once_is_left_alone():
    assert found(NESTED.replace("module.parameters():", "module.parameters(recurse=False):")) == []
    assert found(NESTED.replace("for module in model.modules():", "for module in [model]:")) == []


LOOKING = {
    "a part of it, written": """
rows = []
def look(grad):
    flat = grad.view(-1)
    flat /= flat.norm()  # writes
    rows.append(flat.sum().item())
w.register_hook(look)
train_w()
""",
    "a statistic of what it wrote": """
class Watch:
    def __init__(self):
        self.sizes = []
    def __call__(self, grad):
        self.sizes.append(grad.abs_().mean().item())  # writes
w.register_hook(Watch())
train_w()
""",
    "a name that is written as if it were rebound": """
last = {}
def look(grad):
    grad /= grad.norm()  # writes
    last["direction"] = grad.clone()
w.register_hook(look)
train_w()
""",
}
TRAIN_W = """
def train_w():
    for epoch in range(2):
        (w * torch.tensor([1.0, -2.0, 3.0])).sum().backward()
"""


@pytest.mark.parametrize("case", LOOKING)
def test_a_hook_that_changes_what_it_looks_at_is_told_where_it_writes(case: str):
    source = HEAD + TRAIN_W + LOOKING[case]
    (answer,) = found(TRAIN_W + LOOKING[case])
    assert answer.code == "hook-changes-gradient"
    assert [cause.line for cause in answer.causes] == [line_of(source, "# writes")]


@pytest.mark.parametrize(
    "body",
    [
        "rows.append(grad.norm().item())\n    grad.clamp_(-1, 1)",
        "grad.mul_(0.5)",
        "return grad.div_(grad.norm())",
        "unit = grad.clone().div_(grad.norm())\n    rows.append(unit)",
        "grad /= 4",
    ],
)
def test_a_hook_that_changes_its_gradient_on_purpose_or_a_copy_of_it_is_left_alone(body: str):
    assert found(f"{TRAIN_W}\nrows = []\ndef look(grad):\n    {body}\nw.register_hook(look)\ntrain_w()\n") == []


CALLED_IN_A_LOOP = """
def slow(param):
    return param.register_hook(lambda grad: grad * 0.5)  # registers
for step in range(4):
    handle = slow(net[0].weight)  # calls
    train()
"""


def test_the_call_in_the_loop_of_the_function_that_registers_is_named_before_it():
    (answer,) = found(CALLED_IN_A_LOOP)
    source = HEAD + CALLED_IN_A_LOOP
    assert [cause.line for cause in answer.causes] == [line_of(source, "# calls"), line_of(source, "# registers")]
    assert found(CALLED_IN_A_LOOP.replace("train()", "train(); handle.remove()")) == []
