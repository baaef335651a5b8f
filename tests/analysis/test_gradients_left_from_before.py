"""Steps with gradients of an earlier round, of parameters that the round did not reach."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

TASKS = """
import torch
trunk, heads = torch.nn.Linear(4, 8), torch.nn.ModuleList([torch.nn.Linear(8, 1), torch.nn.Linear(8, 2)])
params = [*trunk.parameters(), *heads.parameters()]
MADE
for step in range(8):
    task = step % 4 // 2
    BEFORE
    loss = heads[task](torch.tanh(trunk(torch.randn(8, 4)))).pow(2).mean()
    GRADIENTS
    optimizer.step()  # stepped
"""
OWN = "optimizer = torch.optim.SGD(params, lr=0.1)"
MASTERS = """masters = [p.detach().clone().requires_grad_() for p in params]
optimizer = torch.optim.Adam(masters, lr=0.01)"""
HANDED = """loss.backward()
    for p, master in zip(params, masters):
        if p.grad is not None:  # asked
            master.grad = p.grad.clone()  # given"""
COPIED = """loss.backward()
    for p, master in zip(params, masters):
        if p.grad is None:  # asked
            continue
        if master.grad is None:
            master.grad = torch.zeros_like(master)
        master.grad.copy_(p.grad)  # given"""
TAKEN = """for p, taken in zip(params, torch.autograd.grad(loss, params, allow_unused=True)):
        if taken is not None:
            p.grad = taken  # given"""
CLEARS = "for p in params: p.grad = None"
IN_PARTS = "trunk.zero_grad()\n    heads[task].zero_grad()  # cleared"


def _answers(source: str) -> list[tuple[str, list[int]]]:
    return [
        (one.text, [cause.line for cause in one.causes])
        for one in build(recorded(source)).answers
        if one.code == "gradients-applied-again"
    ]


def _program(made: str, before: str, gradients: str) -> str:
    return TASKS.replace("MADE", made).replace("BEFORE", before).replace("GRADIENTS", gradients)


@pytest.mark.parametrize(
    ("made", "before", "gradients", "marks"),
    [
        (MASTERS, CLEARS, HANDED, ["# given", "# asked"]),
        (MASTERS, CLEARS, COPIED, ["# given", "# asked"]),
        (OWN, "pass", TAKEN, ["# given"]),
        (OWN, IN_PARTS, "loss.backward()", ["# cleared", "# stepped"]),
    ],
)
def test_a_head_that_is_not_in_use_is_stepped_by_its_last_gradient(
    made: str, before: str, gradients: str, marks: list[str]
) -> None:
    source = _program(made, before, gradients)
    [(text, lines)] = _answers(source)
    assert "again (6 times)" in text and lines == [line_of(source, mark) for mark in marks]
    assert f"Line {line_of(source, '# stepped')}" in text and f"line {lines[0]}" in text


@pytest.mark.parametrize(
    ("made", "before", "gradients"),
    [
        (MASTERS, f"{CLEARS}\n    optimizer.zero_grad()", HANDED),
        (MASTERS, f"{CLEARS}\n    optimizer.zero_grad(set_to_none=False)", COPIED),
        (MASTERS, CLEARS, f"{HANDED}\n        else:\n            master.grad = None"),
        (OWN, "pass", f"{TAKEN}\n        else:\n            p.grad = None"),
        (OWN, "optimizer.zero_grad(set_to_none=False)", "loss.backward()"),
    ],
)
def test_a_head_whose_gradient_is_cleared_is_left_alone(made: str, before: str, gradients: str) -> None:
    assert not _answers(_program(made, before, gradients))


def test_a_gradient_that_is_meant_for_all_steps_is_left_alone() -> None:
    """No round gives anything a gradient where this one got its own: a constant push."""
    made = """push = torch.nn.Parameter(torch.zeros(2))
push.grad = torch.ones(2)
optimizer = torch.optim.SGD([*params, push], lr=0.1)"""
    assert not _answers(_program(made, CLEARS, TAKEN.replace("if taken is not None:", "if True:")))
    assert not _answers(_program(made, CLEARS, "loss.backward()"))


def test_steps_with_one_gradient_for_all_are_left_alone() -> None:
    """No other parameter got a new one in between."""
    several = _program(OWN, CLEARS, "loss.backward()\n    optimizer.step()\n    optimizer.step()")
    assert not _answers(several)
    kept = _program(
        MASTERS,
        CLEARS,
        HANDED.replace("loss.backward()", "loss.backward()\n    if step % 4: optimizer.step(); continue"),
    )
    assert not _answers(kept)
