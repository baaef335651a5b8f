"""Closures of LBFGS that give the loss and the gradients of before the step, and those that compute them anew."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn

torch.manual_seed(0)
trunk, head = nn.Linear(4, 3), nn.Linear(3, 2)
x, y = torch.randn(32, 4), torch.randn(32, 2)
with torch.no_grad():
    features = trunk(x)
optimizer = torch.optim.{optimizer}

{functions}

for step in range(3):
    {before}
    {step}
"""
LBFGS = "LBFGS(head.parameters(), lr=0.5, max_iter={})"
BEFORE = """loss = (head(features) - y).pow(2).mean()  # loss
    optimizer.zero_grad()
    loss.backward()"""
DEF = """def closure():
        return loss  # given
    optimizer.step(closure)"""
TOLD = """def closure():
        print(float(loss))
        optimizer.zero_grad
        return loss  # given
    optimizer.step(closure)"""
NAMED = """closure = lambda: loss  # given
    optimizer.step(closure)"""
LAMBDA = "optimizer.step(lambda: loss)  # given"
OUT = "out = head(features)  # out"
AGAIN = """def closure():
        optimizer.zero_grad()
        {}
        found.backward(retain_graph=True)
        return found
    optimizer.step(closure)"""
ALL = "found = (head(features) - y).pow(2).mean()"


def said(before: str, step: str, functions: str = "", optimizer: str = "") -> tuple[list[list[int]], str]:
    source = PROGRAM.format(before=before, step=step, functions=functions, optimizer=optimizer or LBFGS.format(4))
    recording = recorded(source)
    assert recording.info.outcome.kind == "ok"
    found = [one for one in build(recording).answers if one.code == "closure-without-backward"]
    return [[cause.line for cause in one.causes] for one in found], source


@pytest.mark.parametrize("step", [LAMBDA, DEF, NAMED, TOLD])
def test_a_closure_that_computes_nothing(step: str) -> None:
    (causes,), source = said(BEFORE, step)
    given = line_of(source, "# given")
    assert given - 3 <= causes[0] <= given
    assert causes[-1] == line_of(source, "# loss")


@pytest.mark.parametrize(
    ("before", "inside"),
    [
        (OUT, "found = (out - y).pow(2).mean()"),
        (OUT, "found = nn.functional.mse_loss(out, y)"),
        ("out = (head(features) - y).pow(2).mean()  # out", "found = out"),
    ],
)
def test_what_was_computed_before_is_named_first(before: str, inside: str) -> None:
    (causes,), source = said(before, AGAIN.format(inside))
    assert causes[0] == line_of(source, "# out")
    assert line_of(source, "found.backward") in causes


def test_one_step_that_asks_several_times() -> None:
    before = f"if step: break\n    {OUT}"
    (causes,), source = said(before, AGAIN.format("found = (out - y).pow(2).mean()"), optimizer=LBFGS.format(5))
    assert causes[0] == line_of(source, "# out")


FUNCTIONS = """def compute():
    optimizer.zero_grad()
    found = (head(features) - y).pow(2).mean()
    found.backward()
    return found
class Task:
    loss = 0.0
    def closure(self):
        self.loss = compute()
        return self.loss
task = Task()"""
FLAT = """flat = torch.zeros(8, requires_grad=True)
optimizer = torch.optim.LBFGS([flat], max_iter=4)
weight, bias = flat[:6].view(2, 3), flat[6:]"""


@pytest.mark.parametrize(
    ("before", "step", "settings"),
    [
        ("pass", AGAIN.format(ALL), {}),
        ("pass", AGAIN.format("out = head(features); found = (out - y).pow(2).mean()"), {}),
        ("pass", "optimizer.step(compute)", {"functions": FUNCTIONS}),
        ("pass", "optimizer.step(lambda: compute())", {"functions": FUNCTIONS}),
        ("pass", "optimizer.step(task.closure)", {"functions": FUNCTIONS}),
        (BEFORE, LAMBDA, {"optimizer": LBFGS.format(1)}),
        (OUT, AGAIN.format("found = (out - y).pow(2).mean()"), {"optimizer": LBFGS.format(1)}),
        (BEFORE, LAMBDA, {"optimizer": "SGD(head.parameters(), lr=0.1)"}),
        (BEFORE, DEF, {"optimizer": "Adam(head.parameters(), lr=0.1)"}),
        (
            "pass",
            AGAIN.format("found = (features @ weight.t() + bias - y).pow(2).mean()"),
            {"functions": FLAT},
        ),
        (OUT, AGAIN.format(f"{ALL} + 0 * out.sum()"), {}),
    ],
)
def test_it_is_silent(before: str, step: str, settings: dict[str, str]) -> None:
    assert said(before, step, **settings)[0] == []
