"""What is said of writes past the version counter where no backward pass could be wrong in silence any more."""

from __future__ import annotations

import pytest
import torch

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Report
from tests.analysis.building import line_of, recorded

RENORMALISED = """
import torch
w = torch.nn.Parameter(torch.ones(2))
opt = torch.optim.SGD([w], lr=0.1)
loss = (w * w * torch.tensor([1.0, 3.0])).sum()
loss.backward(retain_graph=True)
opt.step()  # counted
w.data.copy_(w.data / w.data.sum() * 2)  # past
"""
FREED = """
import torch
import torch.nn.functional as F
torch.manual_seed(0)
w = torch.nn.Parameter(torch.randn(3, 3))
x = torch.randn(4, 3, requires_grad=True)
def step():
    target = F.softmax(torch.ones(4, 3) @ (w * w), dim=1)
    loss = F.kl_div(F.log_softmax(x @ w, dim=1), target, reduction="sum")
    return loss, torch.autograd.grad(loss, [x])[0]
loss, grad = step()
w.data.mul_(0.9)  # past
"""


def effects(source: str, mark: str = "# past") -> set[str]:
    return _effects(build(recorded(source)), line_of(source, mark))


def _effects(report: Report, line: int) -> set[str]:
    return {write.effect for write in report.inplace_writes if write.place.line == line}


def severities(source: str) -> list[str]:
    return [one.severity for one in build(recorded(source)).answers if one.code == "write-through-alias"]


COUNTED = (
    "opt.step()",
    "w.detach().mul_(0.9)",
    "with torch.no_grad(): w.add_(1)",
    "torch._foreach_mul_([w.detach()], 0.5)",
)


@pytest.mark.parametrize("counted", COUNTED)
def test_a_write_beside_one_that_torch_counted_is_not_unnoticed(counted: str) -> None:
    source = RENORMALISED.replace("opt.step()", counted)
    assert effects(source, "# counted") == {"would_raise"}
    assert effects(source) == {"none"}
    assert "warning" not in severities(source)


@pytest.mark.parametrize("counted", COUNTED)
def test_torch_notices_the_counted_write(counted: str) -> None:
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        exec(RENORMALISED.replace("opt.step()", counted) + "loss.backward()\n", {})


def test_where_backward_raised_the_counted_write_is_the_cause() -> None:
    source = RENORMALISED + "try:\n    loss.backward()\nexcept RuntimeError as error:\n    print(type(error))\n"
    report = build(recorded(source))
    (problem,) = [one for one in report.answers if one.severity == "problem"]
    assert problem.code == "inplace-error"
    lines = {cause.line for cause in problem.causes}
    assert line_of(source, "# counted") in lines and line_of(source, "# past") not in lines
    assert _effects(report, line_of(source, "# past")) == {"none"}


@pytest.mark.parametrize(
    "change",
    [
        ("opt.step()", "pass"),
        ("opt.step()", "torch.ones(2).add_(1)"),
        ("loss = (w * w", "w.detach().add_(1)\nloss = (w * w"),
        ("opt.step()", "opt.step()\nloss = (w * w).sum()\nprint(loss.item())"),
    ],
    ids=["none", "of another tensor", "before it was saved", "computed anew since"],
)
def test_a_write_that_nothing_counted_goes_unnoticed(change: tuple[str, str]) -> None:
    source = RENORMALISED.replace("opt.step()  # counted", "opt.step()").replace(*change)
    if change[0] == "loss = (w * w":
        source = source.replace("opt.step()", "pass")
    assert effects(source) == {"would_be_silently_wrong"}
    assert "warning" in severities(source)


FREED_WAYS = [
    ("return loss, torch", "return loss, torch"),
    ("torch.autograd.grad(loss, [x])[0]", "loss.backward(inputs=[x])"),
    ("loss, grad = step()", "for _ in range(2):\n    loss, grad = step()"),
]


@pytest.mark.parametrize("change", FREED_WAYS, ids=["grad", "inputs", "again"])
def test_nothing_comes_through_a_graph_that_a_pass_has_freed(change: tuple[str, str]) -> None:
    assert effects(FREED.replace(*change)) == {"none"}


@pytest.mark.parametrize("change", FREED_WAYS, ids=["grad", "inputs", "again"])
def test_torch_raises_at_what_a_pass_has_freed(change: tuple[str, str]) -> None:
    for then in ("loss.backward()", "torch.autograd.grad(loss, [w])"):
        with pytest.raises(RuntimeError, match="second time"):
            exec(FREED.replace(*change) + then, {"torch": torch})


@pytest.mark.parametrize(
    "change",
    [
        ("grad(loss, [x])", "grad(loss, [x], retain_graph=True)"),
        ("return loss,", "return target,"),
        ("loss, grad = step()", "loss, grad = step()\nscores = w.exp()"),
    ],
    ids=["kept", "another way to it", "another graph"],
)
def test_a_graph_that_can_still_be_gone_through_is_told_of(change: tuple[str, str]) -> None:
    source = FREED.replace(*change)
    if "scores" in change[1]:
        source = source.replace("w.data.mul_", "print(scores.sum().item())\nscores.data.mul_")
    assert effects(source) == {"would_be_silently_wrong"}


@pytest.mark.parametrize("gone", ["del loss", "loss = loss.item()", "kept = [loss]\ndel loss\nkept.clear()"])
def test_nothing_comes_through_a_graph_that_is_gone(gone: str) -> None:
    assert effects(RENORMALISED.replace("opt.step()  # counted", gone)) == {"none"}
