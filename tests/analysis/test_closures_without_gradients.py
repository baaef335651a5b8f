"""A closure that a step under no_grad calls: the call is the line to change."""

from __future__ import annotations

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
class Signed(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {{}})
    @torch.no_grad()  # off
    def step(self, closure=None):
        {}loss = closure()  # calls
        for p in self.param_groups[0]["params"]:
            p.sub_(p.grad.sign(), alpha=0.1)
        return loss
net = torch.nn.Linear(3, 1)
opt = Signed(net.parameters())
def closure():
    opt.zero_grad()
    loss = net(torch.ones(2, 3)).pow(2).sum()
    loss.backward()
    return loss
opt.step(closure)
"""
FUNCTION = """
import torch
w = torch.ones(3, requires_grad=True)
def search(evaluate, steps):
    with torch.no_grad():  # off
        for _ in range(steps):
            evaluate()  # calls
def evaluate():
    (w * 2).sum().backward()
search(evaluate, 2)
"""


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "backward-no-grad" for cause in one.causes]


def test_the_call_of_what_was_given_is_named_before_the_region() -> None:
    for source in (SOURCE.format(""), FUNCTION):
        assert lines(source) == [line_of(source, "# calls"), line_of(source, "# off")]


def test_under_enable_grad_it_is_fine() -> None:
    assert lines(SOURCE.format("with torch.enable_grad(): ")) == []
