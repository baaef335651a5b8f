"""Gradients that are returned, or put where no step looks, so that an optimizer steps and changes nothing."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

ALL = "list(layer.parameters())"
LOOP = """
import torch
from torch.func import functional_call, grad
layer = torch.nn.Linear(3, 1)
held = dict(layer.named_parameters())
def of(parameters, x):
    return functional_call(layer, parameters, (x,)).pow(2).mean()
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for step in range(4):
    x = torch.ones(2, 3, requires_grad=True)
    {}
    optimizer.step()  # steps
"""


def found(body: str, code: str) -> list[Answer]:
    return [one for one in build(recorded(LOOP.format(body))).answers if one.code == code]


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (
            "loss = layer(x).sum()\n    torch.autograd.grad(loss, list(layer.parameters()))",
            ("# steps", "autograd.grad("),
        ),
        ("gradients = grad(of)(held, x)", ("# steps", "grad(of)(")),
        (
            "g = grad(of)(held, x)\n    for name, p in layer.named_parameters():\n        p.grads = g[name]",
            ("p.grads", "# steps", "grad(of)("),
        ),
    ],
)
def test_gradients_that_nobody_puts_where_a_step_looks(body: str, lines: tuple[str, ...]) -> None:
    (answer,) = found(body, "step-without-backward")
    assert [cause.line for cause in answer.causes] == [line_of(LOOP.format(body), one) for one in lines]


@pytest.mark.parametrize(
    "body",
    [
        "for p, g in zip(layer.parameters(), torch.autograd.grad(layer(x).sum(), list(layer.parameters()))):\n"
        "        p.grad = g",
        "torch.autograd.grad(layer(x).sum(), x)",
        f"layer(x).sum().backward()\n    optimizer.step()\n    torch.autograd.grad(layer(x).sum(), {ALL})\n"
        "    optimizer.zero_grad()",
    ],
)
def test_gradients_that_have_their_place_or_are_of_others(body: str) -> None:
    assert not found(body, "step-without-backward")


SCALED = "layer(x).sum().backward()\n    for p in layer.parameters():\n        p.{} = p.grad / p.grad.norm()"


def test_a_gradient_under_another_name_is_not_what_a_step_applies() -> None:
    (answer,) = found(SCALED.format("grads"), "attribute-ignored")
    assert [cause.line for cause in answer.causes] == [line_of(LOOP.format(SCALED.format("grads")), "p.grads")]


@pytest.mark.parametrize("body", [SCALED.format("grad"), f"{SCALED.format('grads')}\n        print(p.grads.sum())"])
def test_an_attribute_that_the_program_reads_is_its_own(body: str) -> None:
    assert not found(body, "attribute-ignored")
