"""Backward passes that raised, and passes that start from a gradient edge: what is said of them is so."""

from __future__ import annotations

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

RAISES = """
import torch
class Bad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h):
        return h * 2
    @staticmethod
    def backward(ctx, grad):
        raise ValueError("no")
w, v = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
try:
    (Bad.apply(w) * v).sum().backward()
except ValueError:
    pass
print(w.grad, v.grad)
"""
EDGE = """
import torch
w, v = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
y = (w * 2).sum()
edge = torch.autograd.graph.get_gradient_edge(y)
(g,) = torch.autograd.grad(edge, w, retain_graph=True)
torch.autograd.backward(edge)
print(v.grad)
"""


def test_a_pass_that_raised_has_the_gradients_that_it_gave() -> None:
    report = build(recorded(RAISES))
    (one,) = report.backwards
    assert [(row.name, row.outcome) for row in one.gradients] == [("v", "created")]
    (answer,) = [answer for answer in report.answers if answer.code == "grad-none-unreached"]
    assert answer.text.startswith("w.grad is None") and "raised, and gave none" in answer.text


def test_a_gradient_edge_stands_for_its_tensor() -> None:
    report = build(recorded(EDGE))
    by_grad, by_backward = report.backwards
    assert by_grad.roots == by_backward.roots == ("y",)
    assert {row.name: row.outcome for row in by_backward.gradients} == {"w": "created", "v": "missing"}
    assert [row.name for row in report.lines if row.kind == "backward"] == ["y", "y"]
    (answer,) = [answer for answer in report.answers if answer.tensor == "v"]
    assert answer.code == "grad-none-unreached"


def test_a_pass_from_the_edge_of_a_tensor_that_is_gone_has_no_root() -> None:
    report = build(recorded(EDGE.replace("edge(y)\n", "edge(y)\ndel y\n")))
    assert [one.roots for one in report.backwards] == [(), ()]
    assert [row.name for row in report.lines if row.kind == "backward"] == ["", ""]


def test_what_a_pass_gave_to_a_leaf_that_is_gone_stays_when_a_later_one_raises() -> None:
    report = build(
        recorded("""
        import copy, torch
        w, fc = torch.ones(3, requires_grad=True), torch.nn.Linear(3, 3)
        trunk = fc(torch.ones(2, 3))
        for step in range(3):
            kept = copy.deepcopy(w)
            h = trunk * kept + fc(torch.ones(2, 3))
            h.sum().backward()
        """)
    )
    rows = [(row.name, row.outcome) for row in report.backwards[0].gradients if row.name.startswith("kept")]
    assert rows[0] == ("kept", "created")
    names = [(row.name, row.outcome) for row in report.backwards[0].gradients if row.name.startswith("fc.")]
    assert names == [("fc.weight", "untouched"), ("fc.bias", "untouched")]
