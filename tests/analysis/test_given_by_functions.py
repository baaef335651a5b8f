"""What a custom Function returns has its state from the call, in every run: its input, a view, or what it made."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
class Passed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h):
        return {}
    @staticmethod
    def backward(ctx, grad):
        return -grad
class Other(Passed):
    @staticmethod
    def forward(ctx, h):
        return h * 1
w = torch.randn(3, requires_grad=True)
for step in range({}):
    h = w * 3
    s = Passed.apply(h)
    r = Other.apply(h)
    loss = (s * 2).sum() + r.sum()
    loss.backward()
"""


@pytest.mark.parametrize("runs", [1, 18, 40])
@pytest.mark.parametrize("returned", ["h", "h.view_as(h)", "h[:]"])
def test_it_is_no_leaf_and_no_cut_in_any_run(returned: str, runs: int) -> None:
    source = PROGRAM.format(returned, runs)
    report = build(recorded(source))
    assert report.answers == ()
    assert report.cuts == ()
    assert [row.name for one in report.backwards for row in one.gradients] == ["w"]
    rows = [row for row in report.lines if row.line == line_of(source, "s = Passed") and row.requires_grad is not None]
    assert [(row.is_leaf, row.grad_fn) for row in rows] == [(False, "PassedBackward")]


def test_a_view_made_under_no_grad_is_a_cut_still() -> None:
    source = """
import torch
w = torch.randn(3, requires_grad=True)
h = w * 3
with torch.no_grad():
    s = h.view_as(h)
loss = (s * 2).sum() + w.sum()
loss.backward()
"""
    (cut,) = build(recorded(source)).cuts
    assert (cut.kind, cut.op) == ("no_grad", "Tensor.view_as")


@pytest.mark.parametrize("runs", [1, 3, 40])
def test_a_loss_that_passed_a_full_backward_hook_is_no_leaf(runs: int) -> None:
    source = f"""
import torch
layer, criterion = torch.nn.Linear(3, 1), torch.nn.MSELoss()
criterion.register_full_backward_hook(lambda module, given, got: None)
for step in range({runs}):
    loss = criterion(layer(torch.randn(4, 3)), torch.zeros(4, 1))
    loss.backward()
"""
    report = build(recorded(source))
    assert report.answers == ()
    assert {row.name for one in report.backwards for row in one.gradients} == {"layer.weight", "layer.bias"}
