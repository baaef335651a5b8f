"""Backward passes that fail as the backward of a Function wrote what another node had saved as well."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SOURCE = """
import torch
class Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b
    @staticmethod
    def backward(ctx, grad):
        {}
        {}
        return grad_a, grad_b
w = torch.linspace(0.1, 1, 6, requires_grad=True)
v = torch.linspace(1, 2, 6, requires_grad=True)
a, b = {}
{}
"""
TAKEN = "a, b = ctx.saved_tensors; grad_a = grad * b"
SHARED = "w * 1, v.exp()"
ONCE = "Gate.apply(a, b).sum().backward()"
TWICE = "out = Gate.apply(a, b).sum(); out.backward(retain_graph=True); out.backward()"


def found(write: str, taken: str = TAKEN, given: str = SHARED, passes: str = ONCE) -> list[list[int]]:
    answers = build(recorded(SOURCE.format(taken, write, given, passes))).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "inplace-error"]


@pytest.mark.parametrize(
    "write",
    [
        "torch.mul(grad, a, out=b); grad_b = b",
        "b.copy_(grad * a); grad_b = b",
        "b *= 0; grad_b = b.clone()",
        "b[0] = 7.0; grad_b = grad * a",
        "flat = b.view(2, 3); flat.mul_(2); grad_b = grad * a",
        "grad_b = torch.relu_(b)",
    ],
)
def test_the_write_of_what_another_node_saved_is_named(write: str) -> None:
    assert found(write) == [[10, 14]]


def test_a_second_pass_finds_what_the_first_one_wrote() -> None:
    assert found("grad_b = b.mul_(2)", given="w * 1, v * 1", passes=TWICE) == [[10, 15]]
    assert found("grad_b = ctx.saved_tensors[1].mul_(2)", given="w * 1, v * 1", passes=TWICE) == [[10, 15]]
    by_index = "b = ctx.saved_tensors[1]; a = ctx.saved_tensors[0]; grad_a = grad * b"
    assert found("grad_b = b.mul_(2)", taken=by_index, given="w * 1, v * 1", passes=TWICE) == [[10, 15]]


UNREAD = """
import torch
class Energy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a * 2, a.sum())
        return (a * a).sum()
    @staticmethod
    def backward(ctx, grad):
        twice, total = ctx.saved_tensors
        {}
w = torch.linspace(0.1, 1, 6, requires_grad=True)
held = [Energy.apply(w * 1)]
{}
held[0].backward()
"""
FIRST = "torch.autograd.grad(held[0], w, retain_graph=True)"


@pytest.mark.parametrize(
    "write",
    [
        "twice.mul_(grad); return twice",
        "twice *= grad; return twice",
        "torch.mul(twice, grad, out=twice); return twice",
        "flat = twice.view(-1); flat.mul_(grad); return twice",
        "return ctx.saved_tensors[0].mul_(grad)",
        "return twice.mul_(grad) if ctx.needs_input_grad[0] else None",
    ],
)
@pytest.mark.parametrize("first", [FIRST, "held[0].backward(retain_graph=True)"])
def test_what_was_written_before_it_could_be_read_is_named_by_the_source(write: str, first: str) -> None:
    assert [lines[0] for lines in again(write, first)] == [10]


def again(write: str, first: str) -> list[list[int]]:
    answers = build(recorded(UNREAD.format(write, first))).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "inplace-error"]


@pytest.mark.parametrize(
    ("write", "first"),
    [
        ("twice.mul_(grad); return twice", "pass"),
        ("return twice.mul(grad)", FIRST),
        ("twice = twice.clone(); twice.mul_(grad); return twice", FIRST),
        ("return twice.mul(grad)", FIRST + "\nh = w.exp()\nheld[0] = held[0] + h.sum()\nh.detach().zero_()"),
    ],
)
def test_a_pass_that_comes_to_unwritten_memory_is_not_put_down_to_it(write: str, first: str) -> None:
    assert [lines for lines in again(write, first) if 10 in lines] == []


@pytest.mark.parametrize(
    "write",
    ["b = b.clone(); grad_b = b.mul_(2)", "grad_b = b.mul(2)", "grad_b = (a * b).mul_(2)"],
)
def test_a_pass_that_failed_for_another_write_is_not_put_down_to_it(write: str) -> None:
    later = ONCE + "\nh = v.exp()\nz = h.sum()\nh.detach().zero_()\nz.backward()"
    assert found(write, passes=later) == [[18, 16]]


def test_what_nobody_else_saved_may_be_written() -> None:
    failing = "Gate.apply(a, b).sum().backward()\nh = v.exp()\nz = h.sum()\nh.detach().zero_()\nz.backward()"
    assert found("grad_b = b.mul_(2)", given="w * 1, v * 1", passes=failing) == [[18, 16]]


def silently(write: str, given: str = SHARED) -> list[list[int]]:
    answers = build(recorded(SOURCE.format(TAKEN, write, given, ONCE))).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "gradient-silently-wrong"]


@pytest.mark.parametrize(
    "write",
    [
        "b.data.copy_(grad * a); grad_b = b",
        "raw = b.view(-1).data; raw *= 0; grad_b = grad * a",
        "b.data[0] = 7.0; grad_b = grad * a",
    ],
)
def test_a_write_that_no_version_shows_is_told_of_without_an_error(write: str) -> None:
    assert silently(write) == [[10, 14]]


@pytest.mark.parametrize(
    ("write", "given"),
    [
        ("b.data.copy_(grad * a); grad_b = b", "w * 1, v * 1"),  # nobody else had saved it
        ("b = b.clone(); b.data.mul_(2); grad_b = grad * a", SHARED),
        ("a.data.mul_(2); grad_b = grad", SHARED),
        ("grad_b = b.data.mul(2)", SHARED),
    ],
)
def test_what_nobody_behind_it_needs_may_be_written(write: str, given: str) -> None:
    assert silently(write, given) == []
