"""What a custom Function gave is of the line that applies it, and tracked from there, whoever uses it."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

FUNCTION = """
from typing import NamedTuple
import torch
class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return (x > 0).float()
    @staticmethod
    def backward(ctx, grad):
        return grad
w = torch.ones(3, requires_grad=True)
"""

RETURNED = (
    FUNCTION
    + """
def cell(x):
    return Spike.apply(w * x)
for step in range(4):
    a = cell(torch.ones(3))
    b = cell(a)
    cut = b.detach()
    (a + b).sum().backward()
"""
)

NAMED_AND_HANDED_ON = (
    FUNCTION
    + """
def spike(v):
    out = Spike.apply(v)
    return out
def cell(x):
    return spike(w * x)
for step in range(4):
    a = cell(torch.ones(3))
    b = cell(a)
    cut = b.detach()
    (a + b).sum().backward()
"""
)


@pytest.mark.parametrize("source", [RETURNED, NAMED_AND_HANDED_ON])
def test_it_is_of_the_line_that_applies_the_function(source: str) -> None:
    report = build(recorded(source))
    applied = [row for row in report.lines if row.grad_fn == "SpikeBackward"]
    assert {row.line for row in applied} == {line_of(source, "Spike.apply")}
    assert {row.executions for row in applied} == {8}
    assert {(row.requires_grad, row.requires_grad_before) for row in applied} == {(True, None)}
    assert not [row for row in report.lines if row.line == line_of(source, "b = cell(a)") and row.requires_grad]
    (cut,) = report.cuts
    assert (cut.place.line, cut.executions) == (line_of(source, "b.detach()"), 4)


def test_of_two_lines_that_apply_one_function_each_has_its_own() -> None:
    source = (
        FUNCTION
        + """
def one(x):
    return Spike.apply(w * x)
def other(x):
    return Spike.apply(w - x)
for step in range(3):
    a = one(torch.ones(3))
    b = other(torch.ones(3))
    (a * b).sum().backward()
"""
    )
    lines = {row.name: row.line for row in build(recorded(source)).lines if row.grad_fn == "SpikeBackward"}
    assert lines == {"a": line_of(source, "w * x"), "b": line_of(source, "w - x")}


@pytest.mark.parametrize("runs", [1, 3, 30])
def test_each_use_of_a_state_that_a_function_gave_is_a_cut(runs: int) -> None:
    source = (
        FUNCTION
        + f"""
class State(NamedTuple):
    z: torch.Tensor
def cell(x, s):
    v = w * x * (1 - s.z.detach())
    z = Spike.apply(v)
    return z, State(z)
for _ in range({runs}):
    a, b = State(torch.zeros(3)), State(torch.zeros(3))
    for t in range(4):
        z, a = cell(torch.ones(3), a); z, b = cell(z, b)
    (z + a.z).sum().backward()
"""
    )
    (cut,) = build(recorded(source)).cuts
    assert (cut.place.line, cut.executions) == (line_of(source, "s.z.detach()"), 6 * runs)


@pytest.mark.parametrize("taken", ["torch.stack(outs).detach()", "sum(o.detach() for o in outs)"])
def test_what_a_list_holds_is_tracked(taken: str) -> None:
    source = (
        FUNCTION
        + f"""
def run():
    outs = []
    for t in range(3):
        outs.append(Spike.apply(w * t))
    seen = {taken}
    return outs[0].sum() + seen.sum()
for _ in range(20):
    run().backward()
"""
    )
    (cut,) = build(recorded(source)).cuts
    assert cut.executions == 20


def test_what_is_made_without_grad_mode_and_never_tracked_is_no_news() -> None:
    source = """
import torch
w = torch.ones(3, requires_grad=True)
for _ in range(20):
    with torch.no_grad():
        target = (w * 2).clone()
    loss = (w - target).sum()
    loss.backward()
"""
    report = build(recorded(source))
    assert not [row for row in report.lines if row.requires_grad_before is not None]
    assert {row.requires_grad for row in report.lines if row.name == "target"} == {False}


@pytest.mark.parametrize("runs", [1, 30])
def test_a_call_that_gives_two_results_is_one_run(runs: int) -> None:
    source = f"""
import torch
class Two(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x + 1, x + 2
    @staticmethod
    def backward(ctx, first, second):
        return first + second
w = torch.ones(3, requires_grad=True)
def both(x):
    a, b = Two.apply(x)
    return a, b
for _ in range({runs}):
    c, d = both(w * 2)
    (c + d).sum().backward()
"""
    rows = [row for row in build(recorded(source)).lines if row.line == line_of(source, "Two.apply")]
    assert {row.executions for row in rows} == {runs}


@pytest.mark.parametrize("runs", [1, 3, 20])
def test_what_a_function_gave_on_the_way_has_no_row_beside_what_is_named(runs: int) -> None:
    source = (
        FUNCTION
        + f"""
def quantized(x):
    q = Spike.apply(x * w) / 4
    return q
def stepped(x):
    return Spike.apply(x)
for _ in range({runs}):
    y = quantized(torch.ones(3)).sum() + (stepped(w * 3) * 2).sum()
    y.backward()
"""
    )
    lines = build(recorded(source)).lines
    on_the_way = [(row.grad_fn, row.executions) for row in lines if row.line == line_of(source, "x * w")]
    assert on_the_way == [("DivBackward0", runs)]
    (row,) = [row for row in lines if row.line == line_of(source, "Spike.apply(x)")]
    assert row.executions == runs


def test_a_run_without_grad_mode_counts_too() -> None:
    source = (
        FUNCTION
        + """
def spike(x):
    return Spike.apply(x)
for _ in range(3):
    y = spike(w * 2)
    y.sum().backward()
with torch.no_grad():
    z = spike(w * 2)
"""
    )
    rows = [row for row in build(recorded(source)).lines if row.line == line_of(source, "return Spike.apply")]
    assert {row.executions for row in rows} == {4}
