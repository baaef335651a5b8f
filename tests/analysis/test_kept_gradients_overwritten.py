"""Gradients that backwards of custom Functions keep themselves: overwritten by the next call, added up, looked at."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
class Stored(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, bias, store):
        ctx.store = store
        ctx.save_for_backward(x, bias)
        return x @ store.weight + bias
    @staticmethod
    def backward(ctx, out):
        x, bias = ctx.saved_tensors
        {keeps}
        return out @ ctx.store.weight.t(), out.sum(0), None
class Store:
    def __init__(self):
        self.weight, self.grad, self.grad_norm = torch.rand(3, 3), torch.zeros(3, 3), 0.0
bias, other, store, second = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3)), Store(), Store()
bias.main_grad = torch.zeros(3)
for step in range(3):
    hidden = Stored.apply(torch.rand(2, 3), bias, store).tanh()
    {again}.sum().backward()
    store.weight -= 0.1 * store.grad
    print(store.grad_norm, bias.main_grad)
"""
TWICE = "Stored.apply(hidden, bias, store)"


def answers(keeps: str, again: str = TWICE) -> tuple[list[Answer], str]:
    source = PROGRAM.format(keeps=keeps.replace("\n", "\n        "), again=again)
    return [one for one in build(recorded(source)).answers if one.code == "kept-gradient-overwritten"], source


@pytest.mark.parametrize(
    "keeps",
    [
        "ctx.store.grad = x.t() @ out  # here",
        "store = ctx.store\nstore.grad = x.t() @ out  # here",
        "ctx.store.grad.copy_(x.t() @ out)  # here",
        "bias.main_grad = out.sum(0)  # here",
    ],
)
def test_a_gradient_that_the_next_call_overwrites(keeps: str) -> None:
    found, source = answers(keeps)
    assert [cause.line for one in found for cause in one.causes] == [line_of(source, "# here")]
    assert "came through 2 calls of it with bias" in found[0].text


@pytest.mark.parametrize(
    ("keeps", "again"),
    [
        ("ctx.store.grad += x.t() @ out", TWICE),
        ("ctx.store.grad = ctx.store.grad + x.t() @ out", TWICE),
        ("g = x.t() @ out\nctx.store.grad = g if ctx.store.grad is None else ctx.store.grad + g", TWICE),
        ("if hasattr(ctx.store, 'grad'): out = out * 1\nctx.store.grad = x.t() @ out", TWICE),
        ("ctx.store.grad_norm = out.norm().item()", TWICE),
        ("ctx.grad = x.t() @ out", TWICE),
        ("ctx.store.grad = x.t() @ out", "hidden"),
        ("ctx.store.grad = x.t() @ out", "Stored.apply(hidden, other, second)"),
    ],
)
def test_gradients_that_are_added_up_looked_at_or_of_another_layer(keeps: str, again: str) -> None:
    assert answers(keeps, again)[0] == []


@pytest.mark.parametrize(("adds", "severity"), [("w.main_grad += out.t() @ x", "note"), ("pass", "warning")])
def test_a_parameter_that_gets_none_as_its_gradient_is_kept_elsewhere(adds: str, severity: str) -> None:
    source = f"""
import torch
class Main(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return x @ w.t()
    @staticmethod
    def backward(ctx, out):
        x, w = ctx.saved_tensors
        {adds}
        return out @ w, None
w, b = torch.nn.Parameter(torch.rand(3, 3)), torch.nn.Parameter(torch.zeros(3))
w.main_grad = torch.zeros(3, 3)
optimizer = torch.optim.SGD([w, b], lr=0.1)
for step in range(3):
    (Main.apply(torch.rand(2, 3), w) + b).sum().backward()
    optimizer.step()
"""
    [found] = [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]
    assert found.severity == severity
