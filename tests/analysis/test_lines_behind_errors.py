"""Errors in backward whose cause is another line than the one at which torch stopped."""

from __future__ import annotations

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

STALE = """
import torch
from torch.nn import Linear, Sequential, Tanh
actor, critic = Linear(2, 2), Sequential(Linear(2, 3), Tanh(), Linear(3, 1))
optimizer = torch.optim.SGD(critic.parameters(), lr=0.1)
def score_of(action):
    return critic(action)
def update(state):
    action = actor(state)
    score = score_of(action)
    score.pow(2).mean().backward(retain_graph=True)
    optimizer.step()
    {}
    (-score.mean()).backward()
update(torch.ones(4, 2))
"""

SHAPE = """
import torch
class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x, scale)
        return x * scale
    @staticmethod
    def backward(ctx, grad):
        x, scale = ctx.saved_tensors
        of_x = grad * scale
        of_scale = (grad * x).sum(1)
        return of_x, of_scale
x, scale = torch.ones(4, 3, requires_grad=True), torch.ones(3, requires_grad=True)
Scale.apply(x, scale).sum().backward()
"""


def answers(source: str, code: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == code]


def test_a_value_from_before_a_step_is_named_where_the_loop_computed_it() -> None:
    source = STALE.format("pass")
    (found,) = answers(source, "inplace-error")
    first = [line_of(source, "score = score_of"), line_of(source, "(-score.mean())")]
    assert [cause.line for cause in found.causes][:2] == first
    assert "before that step" in found.text
    assert answers(STALE.format("score = score_of(action)"), "inplace-error") == []


def test_a_write_that_is_no_step_does_not_ask_for_values_anew() -> None:
    source = "import torch\nx = torch.ones(3, requires_grad=True)\ny = x.exp()\ny.add_(1)\ny.sum().backward()\n"
    (found,) = answers(source, "inplace-error")
    assert [cause.line for cause in found.causes] == [4, 3]
    assert "step" not in found.text


def test_the_line_that_computes_a_gradient_of_the_wrong_shape_comes_before_its_return() -> None:
    source = SHAPE
    (found,) = answers(source, "gradient-does-not-fit")
    computed, returned = line_of(source, "of_scale = "), line_of(source, "return of_x")
    assert [cause.line for cause in found.causes] == [computed, returned]
    assert f"which line {computed} computes" in found.text
    unnamed = source.replace("of_x, of_scale\n", "of_x, (grad * x).sum(1)\n")
    assert [cause.line for cause in answers(unnamed, "gradient-does-not-fit")[0].causes] == [returned]
