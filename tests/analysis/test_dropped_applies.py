"""A statement that applies a custom Function and drops what it gives: found where it ran, and was meant for that."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """
import time
import torch
from torch import nn
class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, extra):
        ctx.save_for_backward(extra)
        {gives}
    @staticmethod
    def backward(ctx, grad):
        (extra,) = ctx.saved_tensors
        return grad, torch.ones_like(extra)
def attach(x, extra):
    return Scale.apply(x, extra)
class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 3)
    def extra(self, x):
        return x.softmax(0).sum()
    def forward(self, x):
        x = self.body(x)
        if self.training:
            {call}
        return x
gate = Gate()
{use}
"""
GIVES = {"a view": "return x.view_as(x)", "what it is given": "return x"}
CALLS = {
    "with a name beside": "extra = self.extra(x)\n            Scale.apply(x, extra)  # here",
    "by a function": "extra = self.extra(x)\n            attach(x, extra)  # here",
    "with an op beside": "extra = x.sum()\n            Scale.apply(x, extra)  # here",
}
TRAINS = "for step in range(2): gate(torch.ones(2, 3)).sum().backward()"


def lines(gives: str, call: str, use: str = TRAINS) -> tuple[str, list[int]]:
    source = HEAD.format(gives=gives, call=call, use=use)
    answers = [one for one in build(recorded(source)).answers if one.code == "apply-dropped"]
    return source, [cause.line for answer in answers for cause in answer.causes]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("gives", GIVES)
def test_the_statement_is_the_cause(gives: str, call: str) -> None:
    source, found = lines(GIVES[gives], CALLS[call])
    assert found == [line_of(source, "# here")]


@pytest.mark.parametrize(
    "call",
    [
        "x = Scale.apply(x, x.sum())",
        "try: Scale.apply(x, x.sum())\n            except RuntimeError: pass",
        "start = time.time(); Scale.apply(x, x.sum())",
        "x.sum(); self.body.apply(print)",
    ],
    ids=["taken", "tried", "timed", "another apply"],
)
def test_what_is_taken_or_tried_is_none(call: str) -> None:
    assert lines(GIVES["a view"], call)[1] == []


@pytest.mark.parametrize("gives", ["ctx.mark_dirty(x.add_(1))\n        return x", "print(x)\n        return x"])
def test_a_forward_that_does_something_besides_may_be_meant_for_it(gives: str) -> None:
    assert lines(gives, CALLS["with an op beside"], "gate(torch.ones(2, 3)).sum()")[1] == []


@pytest.mark.parametrize(
    "use", ["gate.eval()(torch.ones(2, 3)).sum().backward()", "torch.no_grad()(gate)(torch.ones(2, 3))"]
)
def test_what_did_not_run_or_not_with_a_graph_is_none(use: str) -> None:
    assert lines(GIVES["a view"], CALLS["with a name beside"], use)[1] == []
