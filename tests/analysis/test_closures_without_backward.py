"""Closures of LBFGS that never call backward; and those that give the gradients in another way."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

PROGRAM = """
import torch

x = torch.randn(8, 3)
y = x.sum(1, keepdim=True)
w = torch.zeros(3, 1, requires_grad=True)
w.grad = held = torch.zeros(3, 1)
optimizer = torch.optim.{optimizer}([w], lr=0.5)

def closure():
    {body}

for step in range(4):
    optimizer.step(closure)
"""


def said(body: str, optimizer: str = "LBFGS") -> list[tuple[str, list[str]]]:
    source = PROGRAM.format(optimizer=optimizer, body="\n    ".join(body.split("\n")))
    answers = build(recorded(source)).answers
    return [(one.code, [cause.source.strip() for cause in one.causes]) for one in answers]


def test_the_loss_of_the_closure_is_named() -> None:
    loss = "loss = (x @ w - y).pow(2).mean()"
    assert said(f"{loss}\nreturn loss") == [("closure-without-backward", [loss, "optimizer.step(closure)"])]


def test_a_gradient_that_is_set_to_none_is_none() -> None:
    loss = "loss = (x @ w - y).pow(2).mean()"
    assert said(f"w.grad = None\n{loss}\nreturn loss")[0][0] == "closure-without-backward"


def test_no_grad_around_it_is_named_first() -> None:
    loss = "loss = (x @ w - y).pow(2).mean()"
    ((code, causes),) = said(f"with torch.no_grad():\n    {loss}\nreturn loss")
    assert (code, causes[1]) == ("closure-without-backward", loss)
    assert causes[0].startswith("with torch.no_grad():")


@pytest.mark.parametrize(
    "gradient",
    [
        "loss.backward()",
        "(w.grad,) = torch.autograd.grad(loss, w)",
        "w.grad = (2 * x.t() @ (x @ w - y) / 8).detach()",
        "w.grad.copy_((2 * x.t() @ (x @ w - y) / 8).detach())",
        "held.copy_((2 * x.t() @ (x @ w - y) / 8).detach())",
    ],
)
def test_a_closure_that_gives_gradients_is_not_reported(gradient: str) -> None:
    body = f"loss = (x @ w - y).pow(2).mean()\n{gradient}\nreturn loss"
    assert "closure-without-backward" not in [code for code, _ in said(body)]


def test_other_optimizers_need_no_gradients_from_a_closure() -> None:
    body = "return (x @ w - y).pow(2).mean()"
    assert "closure-without-backward" not in [code for code, _ in said(body, "SGD")]
