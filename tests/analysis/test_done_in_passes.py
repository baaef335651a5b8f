"""What hooks do inside backward passes: told at the line of the pass, and not taken for a missing gradient."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import LineRow, Report
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
from torch import nn
torch.manual_seed(0)
net, stats, norms = nn.Linear(3, 3), torch.zeros(3), []
optimizers = {p: torch.optim.AdamW([p], lr=0.1) for p in net.parameters()}
def update(p):
    optimizers[p].step()  # step
    optimizers[p].zero_grad()  # clear
def collect(module, given, grads):
    stats.add_(grads[0].sum(0))  # stats
    norms.append(grads[0].norm())
def stepping():
    for p in net.parameters():
        p.register_post_accumulate_grad_hook(update)
x = torch.randn(4, 3)
def run(n):
    for k in range(n):
        net(x).pow(2).mean().backward()  # pass
"""


def report_of(source: str) -> Report:
    return build(recorded(HEAD + source))


def pass_row(report: Report, source: str) -> LineRow:
    (row,) = [one for one in report.lines if one.line == line_of(HEAD + source, "# pass")]
    return row


def notes(source: str) -> list[str]:
    return [note for note in pass_row(report_of(source), source).notes if "inside" in note]


def test_what_hooks_did_is_told_at_the_pass() -> None:
    source = "stepping()\nnet.register_full_backward_hook(collect)\nrun(3)"
    step, clear, stats = (line_of(HEAD + source, f"# {what}") for what in ("step", "clear", "stats"))
    assert notes(source) == [
        f"inside it line {step} wrote net.bias and net.weight in place",
        f"inside it line {clear} set .grad of net.bias and net.weight to None",
        f"inside it line {stats} wrote stats in place",
    ]


@pytest.mark.parametrize(
    "source",
    [
        "run(3)",
        "net.weight.register_hook(lambda grad: grad.clamp(-1, 1))\nrun(3)",
        "net.weight.register_hook(lambda grad: norms.append(grad.norm()))\nrun(3)",
        "run(1)\nfor p in net.parameters():\n    update(p)",
    ],
)
def test_nothing_is_told_where_nothing_was_written_inside(source: str) -> None:
    assert not notes(source)


@pytest.mark.parametrize("beside", ["", "net.register_full_backward_hook(collect)\n"])
def test_a_gradient_that_a_hook_took_was_received(beside: str) -> None:
    source = f"stepping()\n{beside}run(3)"
    report = report_of(source)
    (passes,) = report.backwards
    line = line_of(HEAD + source, "# clear")
    assert (passes.received, passes.unreached) == (2, 0)
    assert all(one.received for one in passes.gradients)
    assert {one.why for one in passes.gradients} == {
        f"line {line}, which ran inside the pass, set its gradient to None"
    }
    assert (report.summary.leaves_with_gradient, report.summary.leaves_without_gradient) == (2, 0)
    assert not [one for one in report.answers if one.severity in ("problem", "warning")]


def test_a_gradient_that_nothing_took_is_missing() -> None:
    source = """
stepping()
other = nn.Linear(3, 3)
optimizers |= {p: torch.optim.AdamW([p], lr=0.1) for p in other.parameters()}
for p in other.parameters():
    p.register_post_accumulate_grad_hook(update)
run(2)
other(x).detach().add(net(x)).sum().backward()  # last
"""
    report = report_of(source)
    last = next(one for one in report.backwards if one.place.line == line_of(HEAD + source, "# last"))
    whys = {one.name: one.why for one in last.gradients}
    assert (last.received, last.unreached) == (2, 2)
    assert "cut" in whys["other.weight"] and "inside the pass" in whys["net.weight"]


def test_a_function_that_hooks_call_too_has_its_runs_inside_told() -> None:
    source = """
def norm(value):
    return value.norm()  # norm
net.weight.register_hook(lambda grad: norms.append(norm(grad)))
norm(x)
run(2)
"""
    report = report_of(source)
    (row,) = [one for one in report.lines if one.line == line_of(HEAD + source, "# norm")]
    assert row.executions == 3
    assert "2 of 3 runs inside backward (hooks); shown are the others" in row.notes


def test_what_a_hook_makes_where_a_known_tensor_was_is_no_such_tensor() -> None:
    source = """
known = [torch.zeros(3) for _ in range(8)]
def replace(grad):
    known.clear()
    for one in [torch.zeros(3) for _ in range(8)]:
        one.add_(1)
net.weight.register_hook(replace)
run(3)
"""
    assert not notes(source)


def test_a_gradient_that_a_hook_took_is_not_put_down_to_a_later_pass_of_something_else() -> None:
    source = (
        "stepping()\nrun(2)\nother = torch.ones(3, requires_grad=True)\nother.sum().backward()\nprint(net.bias.grad)\n"
    )
    (answer,) = (one for one in report_of(source).answers if one.code.startswith("grad-none"))
    assert f"line {line_of(HEAD, '# clear')}, which ran inside the pass, set its gradient to None" in answer.text
