"""What lacks the loss scale and is added to gradients that carry it, or carries it and is added to those divided."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))
start = [p.detach().clone() for p in model.parameters()]
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
x = torch.ones(2, 4)
for step in range(3):
    optimizer.zero_grad()
    {}
    scaler.step(optimizer)
    scaler.update()
"""
SCALED = "scaler.scale(model(x).sum()).backward()"
EACH = "for p, s in zip(model.parameters(), start):"
SQUARES = "0.01 * sum(p.pow(2).sum() for p in model.parameters())"


def causes(body: str, code: str = "unscaled-term-added") -> tuple[list[int], str]:
    source = PROGRAM.format(body.replace("\n", "\n    "))
    answers = [one for one in build(recorded(source)).answers if one.code == code]
    return [cause.line for answer in answers for cause in answer.causes], source


TERMS = [
    f"{EACH} p.grad.add_(p.detach() - s, alpha=2.0)",
    f"{EACH} p.grad = p.grad + 0.1 * (p.detach() - s)",
    f"{EACH} p.grad = 0.1 * s + p.grad - p.detach()",
    f"{EACH} p.grad += 0.01 * torch.randn_like(p.grad)",
    f"{EACH} p.grad.data.sub_(0.01 * p.data)",
    f"{EACH} p.grad.copy_(p.grad + 0.01 * p.detach())",
    "torch._foreach_add_([p.grad for p in model.parameters()], start, alpha=0.01)",
    f"({SQUARES}).backward()",
]


@pytest.mark.parametrize("term", TERMS)
def test_a_term_that_is_divided_by_the_scale(term: str) -> None:
    found, source = causes(f"{SCALED}\n{term}")
    assert found == [line_of(source, term)]
    assert causes(f"{SCALED}\nscaler.unscale_(optimizer)\n{term}")[0] == []


def test_a_loss_without_the_scale_may_be_the_first() -> None:
    found, source = causes(f"({SQUARES}).backward()\n{SCALED}")
    assert found == [line_of(source, SQUARES)]


def test_unscaling_after_the_term_is_too_late() -> None:
    found, source = causes(f"{SCALED}\n{TERMS[0]}\nscaler.unscale_(optimizer)")
    assert found == [line_of(source, TERMS[0])]


@pytest.mark.parametrize(
    "body",
    [
        f"{SCALED}\n{EACH} p.grad.add_(p.detach(), alpha=0.001 * scaler.get_scale())",
        f"{SCALED}\n{EACH} p.grad.add_(p.detach() * scaler._scale * 0.01)",
        f"{SCALED}\n{EACH} p.grad.add_(p.detach() * (0.01 * 2.0**10))",
        f"{SCALED}\n{EACH} p.grad.sub_(p.grad.mean())",
        f"{SCALED}\n{EACH} p.grad.div_(1024.0).add_(p.detach())",
        f"{SCALED}\n{EACH} p.grad = p.grad / 1024.0 + 0.1 * s",
        f"{SCALED}\nscaler.scale({SQUARES}).backward()",
        f"{SCALED}\n(scaler.get_scale() * {SQUARES}).backward()",
        f"{SCALED}\ntorch.autograd.backward(scaler.scale([{SQUARES}]))",
        f"{SCALED}\n(scaler.scale({SQUARES}) / 2).backward()",
        f"{SCALED}\n{EACH} p.grad.add_(torch.autograd.grad(scaler.scale({SQUARES}), p)[0])",
        f"({SQUARES}).backward()\noptimizer.zero_grad()\n{SCALED}",
    ],
)
def test_what_carries_the_scale_or_is_gone_by_then(body: str) -> None:
    assert causes(body)[0] == []


def test_a_helper_is_called_beside_the_pass() -> None:
    helper = "def pull():\n    for p, s in zip(model.parameters(), start): p.grad.add_(p.detach() - s)\n"
    source = PROGRAM.replace("for step", helper + "for step").format(f"{SCALED}\n    pull()  # called")
    (answer,) = (one for one in build(recorded(source)).answers if one.code == "unscaled-term-added")
    assert [cause.line for cause in answer.causes] == [line_of(source, "# called"), line_of(source, "p.grad.add_")]


UNDONE = "scaler.unscale_(optimizer)"
CLIPPED = "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)"


@pytest.mark.parametrize(
    "between",
    [
        "scaler.update()",
        f"{CLIPPED}\nscaler.update()",
        "",
        CLIPPED,
    ],
)
def test_a_pass_adds_to_gradients_that_were_divided(between: str) -> None:
    found, source = causes(f"{SCALED}\n{UNDONE}\n{between}\n{SCALED}", "unscaled-while-accumulating")
    assert found == [line_of(source, UNDONE)]


@pytest.mark.parametrize(
    "body",
    [
        f"{SCALED}\n{SCALED}\n{UNDONE}\n{CLIPPED}",
        f"{SCALED}\n{UNDONE}\nscaler.update()\noptimizer.zero_grad()\n{SCALED}",
        f"{SCALED}\n{UNDONE}\n{CLIPPED}\nscaler.step(optimizer)\nscaler.update()\n{SCALED}",
        f"{SCALED}\n{UNDONE}\nfor p in model.parameters(): p.grad.mul_(scaler.get_scale())\n{SCALED}",
        f"{SCALED}\n{UNDONE}\n({SQUARES}).backward()",
    ],
)
def test_gradients_divided_once_or_multiplied_again(body: str) -> None:
    assert causes(body, "unscaled-while-accumulating")[0] == []
