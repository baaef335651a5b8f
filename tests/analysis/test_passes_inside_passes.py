"""Passes that hooks and the backward of Functions begin: they are counted, and their lines are there."""

from __future__ import annotations

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import LineRow, Report
from tests.analysis.building import line_of, recorded

IN_HOOK = """
import torch
w = torch.ones(3, requires_grad=True)
for step in range(2):
    z = (w * 2).sin()
    z0 = z.detach().requires_grad_()
    f0 = (z0 * w.detach()).sum()
    def hook(g):
        y = g
        for turn in range(3):
            y = torch.autograd.grad(f0, z0, retain_graph=True)[0] + g  # asked
        return y
    z.register_hook(hook)
    z.sum().backward()
"""

IN_FUNCTION = """
import torch
w = torch.ones(3, requires_grad=True)
class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()
    @staticmethod
    def backward(ctx, g):
        x, = ctx.saved_tensors
        parts = [part * 2 for part in g]  # comprehension
        with torch.enable_grad():
            xi = x.detach().requires_grad_()
            torch.autograd.backward(xi.sin().sum())  # asked
        total = xi.grad * g  # beside
        both = sum([total for _ in range(2)])
        return both / 2
for step in range(2):
    Twice.apply(w * 1).sum().backward()
"""


def rows_of(report: Report, line: int) -> list[LineRow]:
    return [row for row in report.lines if row.line == line]


def test_passes_of_a_hook_are_counted_and_their_line_is_there() -> None:
    report = build(recorded(IN_HOOK))
    assert (report.summary.backwards, report.summary.backwards_inside) == (2, 6)
    (row,) = rows_of(report, line_of(IN_HOOK, "# asked"))
    assert row.executions == 6
    assert "inside backward (hooks)" in row.notes[0] and "torch.autograd.grad" in row.notes[0]


def test_a_leaf_that_a_hook_asks_the_gradient_of_is_not_missed() -> None:
    assert [answer.code for answer in build(recorded(IN_HOOK)).answers] == []
    unasked = IN_HOOK.replace("torch.autograd.grad(f0, z0, retain_graph=True)[0] + g", "f0.detach() + g")
    assert "leaf-unreached" in [answer.code for answer in build(recorded(unasked)).answers]


def test_passes_of_a_functions_backward_are_counted_and_their_lines_are_there() -> None:
    report = build(recorded(IN_FUNCTION))
    assert (report.summary.backwards, report.summary.backwards_inside) == (2, 2)
    (row,) = rows_of(report, line_of(IN_FUNCTION, "# asked"))
    assert row.executions == 2 and "torch.autograd.backward" in row.notes[0]
    (row,) = rows_of(report, line_of(IN_FUNCTION, "# beside"))
    assert row.executions == 2
    (row,) = rows_of(report, line_of(IN_FUNCTION, "# comprehension"))
    assert row.executions in (0, 2)


def test_without_passes_inside_none_is_counted() -> None:
    source = IN_HOOK.replace("z.register_hook(hook)", "")
    report = build(recorded(source))
    assert report.summary.backwards_inside == 0
    assert not rows_of(report, line_of(source, "# asked"))


def test_a_leaf_whose_gradient_a_hook_is_given_is_no_matter_of_the_pass_around() -> None:
    report = build(recorded(IN_HOOK))
    (one,) = report.backwards
    assert [(row.name, row.outcome) for row in one.gradients] == [("w", "accumulated")]
    assert (one.received, one.unreached) == (1, 0)
    assert (report.summary.leaves_with_gradient, report.summary.leaves_without_gradient) == (1, 0)


def test_a_leaf_beside_it_that_nothing_inside_asked_for_is_missed() -> None:
    source = IN_HOOK.replace("    def hook(g)", "    z1 = z.detach().requires_grad_()\n    def hook(g)")
    report = build(recorded(source))
    (one,) = report.backwards
    assert {row.outcome for row in one.gradients if row.name != "w"} == {"missing"}
    assert (one.received, one.unreached) == (1, 2)
    assert (report.summary.leaves_with_gradient, report.summary.leaves_without_gradient) == (1, 2)
