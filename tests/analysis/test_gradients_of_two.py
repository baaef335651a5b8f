"""One gradient tensor that two parameters have, and that is written in place for each of them."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
first, second, third = (nn.Parameter(torch.ones(4, 3)) for _ in range(3))
params = [first, second, third]
optimizer = torch.optim.SGD(params, lr=0.1)
for step in range(3):
    x = torch.rand(4, 3)
    loss = ({together} * x * third).pow(2).sum()
    grads = torch.autograd.grad(loss, params)  # asks
    {put}  # puts
    {write}  # writes
    optimizer.step()
"""
PUT = "for p, g in zip(params, grads): p.grad = g"


def found(together: str = "(first + second)", put: str = PUT, write: str = "pass") -> tuple[list[int], str]:
    source = PROGRAM.format(together=together, put=put, write=write)
    answers = [one for one in build(recorded(source)).answers if one.code == "one-tensor-two-names"]
    return [cause.line for one in answers for cause in one.causes], source


WRITES = [
    "nn.utils.clip_grad_norm_(params, 0.01)",
    "for p in params: p.grad.mul_(0.5)",
    "for p in params: p.grad.add_(p.detach(), alpha=0.1)",
    "torch._foreach_mul_([p.grad for p in params], 0.5)",
    "(first * second * third).sum().backward()",
]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("together", ["(first + second)", "(first + second.view(12).view(4, 3))"])
def test_a_gradient_that_is_written_for_each_of_two(together: str, write: str) -> None:
    lines, source = found(together, write=write)
    assert lines == [line_of(source, f"# {word}") for word in ("puts", "asks", "writes")]


def test_it_may_be_put_there_by_several_statements() -> None:
    lines, source = found(put="first.grad, second.grad, third.grad = grads", write=WRITES[0])
    assert lines[0] == line_of(source, "# puts")


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    ("together", "put"),
    [
        ("(first + second)", PUT + ".clone()"),
        ("(first * second)", PUT),
        ("(first + 2 * second)", PUT),
        ("(first + second)", "first.grad = grads[0]; third.grad = grads[2]; second.grad = grads[1] * 1"),
        (
            "(first + second)",
            "flat = torch.cat([g.flatten() for g in grads]); "
            "first.grad, second.grad, third.grad = (one.view(4, 3) for one in flat.split(12))",
        ),
    ],
)
def test_a_gradient_of_its_own_for_each_is_silent(together: str, put: str, write: str) -> None:
    assert found(together, put, write)[0] == []


@pytest.mark.parametrize(
    "write",
    [
        "pass",
        "grads[0].mul_(0.5)",
        "for p in params: p.grad.clamp_(-1, 1)",
        "nn.utils.clip_grad_value_(params, 0.1)",
        "for p in params: p.grad = p.grad * 0.5",
        "optimizer.step(); optimizer.zero_grad(set_to_none=False)",
    ],
)
def test_what_is_written_once_or_gives_the_same_again_is_silent(write: str) -> None:
    assert found(write=write)[0] == []
