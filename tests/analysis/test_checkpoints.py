"""Activation checkpointing: what is said of a function that backward runs again, and what is not."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = """\
import torch
from torch.utils.checkpoint import checkpoint
norm, x = torch.nn.BatchNorm1d(3), torch.randn(4, 3, requires_grad=True)
def normed(x):
    return norm(x).exp()
def dropped(x, training=True):
    return torch.nn.functional.dropout(x.exp(), 0.5, training).exp()
"""


def codes(program: str) -> dict[str, list[int]]:
    answers = build(recorded(HEAD + program)).answers
    return {one.code: [cause.line for cause in one.causes] for one in answers if one.code.startswith("checkpoint")}


def test_the_line_that_checkpoints_is_named() -> None:
    twice = codes("y = checkpoint(normed, x, use_reentrant=False)\ny.sum().backward()")
    assert twice == {"checkpoint-updates-twice": [8]}
    anew = codes("y = checkpoint(dropped, x, use_reentrant=False, preserve_rng_state=False)\ny.sum().backward()")
    assert anew == {"checkpoint-draws-anew": [8]}


@pytest.mark.parametrize(
    "program",
    [
        "checkpoint(normed, x, use_reentrant=False)",
        "norm.eval()\ncheckpoint(normed, x, use_reentrant=False).sum().backward()",
        "with torch.no_grad():\n    checkpoint(normed, x, use_reentrant=False)\nnormed(x).sum().backward()",
        "checkpoint(dropped, x, use_reentrant=False).sum().backward()",
        "checkpoint(dropped, x, False, use_reentrant=False, preserve_rng_state=False).sum().backward()",
    ],
    ids=["no-backward", "evaluation", "no-grad", "state-kept", "nothing-dropped"],
)
def test_healthy_checkpoints_are_left_alone(program: str) -> None:
    assert codes(program) == {}


def test_layers_of_torch_that_are_checkpointed_as_they_are_are_seen() -> None:
    program = (
        "net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5), torch.nn.Linear(3, 3))\n"
        "checkpoint(net, x, use_reentrant=False, preserve_rng_state=False).sum().backward()"
    )
    assert codes(program) == {"checkpoint-draws-anew": [9]}


RUN_AGAIN = """
import torch
from torch.utils.checkpoint import checkpoint
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh())
    def forward(self, h):
        h = self.parts(h)
        return torch.tanh(h * 2)
net, x = Net(), torch.ones(2, 3, requires_grad=True)
for step in range(3):
    y = {call}
    {then}
"""
REENTRANT, OTHER = "checkpoint(net, x, use_reentrant=True)", "checkpoint(net, x, use_reentrant=False)"


@pytest.mark.parametrize(
    ("call", "then", "runs"),
    [
        (REENTRANT, "y.sum().backward()", 6),
        (OTHER, "y.sum().backward()", 6),
        (REENTRANT, "y = y.detach()", 3),
        (OTHER, "y = y.detach()", 3),
        ("net(x)", "y.sum().backward()", 3),
    ],
)
def test_what_runs_again_inside_backward_is_counted(call: str, then: str, runs: int) -> None:
    report = build(recorded(RUN_AGAIN.format(call=call, then=then)))
    rows = {row.line: row for row in report.lines}
    again = "3 of 6 runs inside backward (checkpoint); shown are the others"
    assert [(rows[line].executions, again in rows[line].notes) for line in (8, 9)] == [(runs, runs == 6)] * 2
    assert 12 not in rows or rows[12].executions == 3


IN_BACKWARD = """
import torch
def cube(x):
    return x ** 3
class Again(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return cube(x)
    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = {again}
        return torch.autograd.grad(y, x, gradient)[0]
w = torch.ones(3, requires_grad=True)
for step in range(20):
    Again.apply(w).sum().backward()
cube(w).sum().backward()
"""


@pytest.mark.parametrize(("again", "inside"), [("cube(x)", 20), ("x ** 3", 0)])
def test_what_the_backward_of_a_function_calls_is_counted(again: str, inside: int) -> None:
    report = build(recorded(IN_BACKWARD.format(again=again)))
    (row,) = [row for row in report.lines if row.line == 3]
    assert row.executions == 21 + inside
    note = f"{inside} of {row.executions} runs inside backward (Again.backward); shown are the others"
    assert (note in row.notes) == bool(inside)
    assert not report.faults


def test_a_function_called_by_the_program_itself_is_counted_once() -> None:
    body = IN_BACKWARD.format(again="cube(x)") + "w.grad = Again.backward(Again.apply(w).grad_fn, torch.ones(3))\n"
    (row,) = [row for row in build(recorded(body)).lines if row.line == 3]
    assert row.executions == 21 + 20 + 2
