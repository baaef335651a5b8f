"""Settings of optimizers under names that nothing reads, and numbers that the program keeps there for itself."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
layer = torch.nn.Linear(3, 1)
def made(**settings):
    return torch.optim.SGD([{"params": [layer.weight]}, {"params": [layer.bias]}], lr=0.1)
class Warmup:
    def __init__(self, optimizer):
        self.optimizer = optimizer
def steps(optimizer, before=lambda i: None):
    for i in range(4):
        before(i)
        optimizer.zero_grad()
        layer(torch.ones(2, 3)).sum().backward()
        optimizer.step()
"""


def said(source: str) -> list[int]:
    answers = build(recorded(HEAD + source)).answers
    return [one.causes[0].line for one in answers if one.code == "setting-ignored"]


@pytest.mark.parametrize(
    "source",
    [
        "groups = [\n  {'params': [layer.weight], 'learning_rate': 0.001},  # here\n  {'params': [layer.bias]}]\n"
        "steps(torch.optim.SGD(groups, lr=0.1))",
        "steps(torch.optim.AdamW([dict(params=layer.parameters(), wd=0.0)]))  # here",
        "optimizer = torch.optim.SGD([layer.weight], lr=0.1)\n"
        "optimizer.add_param_group({'params': [layer.bias], 'weight_decays': 0.5})  # here\nsteps(optimizer)",
        "group = {'params': [layer.bias]}\ngroup['LR'] = 0.01  # here\nsteps(torch.optim.SGD([group], lr=0.1))",
        "warmup = Warmup(made())\ndef set(i):\n    warmup.optimizer.lr = 0.1 / (i + 1)  # here\n"
        "steps(warmup.optimizer, set)",
        "optimizer = made()\noptimizer.momentum = 0.9  # here\nsteps(optimizer)\nprint(optimizer.momentum)",
        "optimizer = torch.optim.Adafactor([layer.weight])\noptimizer.lr = 0.1  # here\nsteps(optimizer)",
        "optimizer = made()\nsteps(optimizer, lambda i: setattr(optimizer, 'lr', 0.01))  # here",
    ],
)
def test_the_line_that_sets_it_is_the_cause(source: str) -> None:
    assert said(source) == [line_of(HEAD + source, "# here")]


@pytest.mark.parametrize(
    "source",
    [
        "steps(torch.optim.SGD([{'params': layer.parameters(), 'lr': 0.001}], lr=0.1))",
        "steps(torch.optim.SGD([{'params': layer.parameters(), 'lr_scale': 0.5, 'base_lr': 0.1}], lr=0.1))",
        "steps(torch.optim.SGD([{'params': layer.parameters(), 'lr': 0.001, 'learning_rate': 0.1}], lr=0.1))",
        "steps(torch.optim.SGD([{'params': layer.parameters(), 'initial_lr': 0.2}], lr=0.1))",
        "steps(torch.optim.SGD([{'params': layer.parameters(), 'learning_rate': 0.1}], lr=0.1))",
        "optimizer = torch.optim.SGD([{'params': layer.parameters(), 'learning_rate': 0.2}], lr=0.1)\ndef set(i):\n"
        "    for group in optimizer.param_groups: group['lr'] = group['learning_rate'] / (i + 1)\n"
        "steps(optimizer, set)",
        "optimizer = made()\ndef set(i):\n    optimizer.lr = 0.1 / (i + 2)\n"
        "    for group in optimizer.param_groups: group['lr'] = optimizer.lr\nsteps(optimizer, set)",
        "optimizer = made()\ndef set(i):\n    optimizer.lr = rate = 0.1 / (i + 1)\n"
        "    for group in optimizer.param_groups: group['lr'] = rate\nsteps(optimizer, set)",
        "optimizer = made()\noptimizer.lr = 0.1\nsteps(optimizer)",
        "optimizer = made()\noptimizer.lr = 0.2\nsteps(optimizer)\nassert optimizer.lr > 0.1",
        "class Own(torch.optim.SGD):\n    def set(self, lr): self.lr = lr\n"
        "optimizer = Own(layer.parameters(), lr=0.1)\noptimizer.set(0.2)\nsteps(optimizer)",
    ],
)
def test_what_the_program_keeps_for_itself_or_follows(source: str) -> None:
    assert said(source) == []
