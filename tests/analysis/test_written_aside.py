"""Results with a graph that are written for something else, through detach() or .data, before their loss."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

HEAD = """import torch
from torch import nn
torch.manual_seed(0)
net = nn.Linear(3, 4)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
kept = []
def psnr(shown, target):
    return (shown - target).pow(2).mean().log().item()
@torch.no_grad()
def clamped(shown, target):
    shown.clamp_(0.0, 1.0)  # in the metric
    return (shown - target).pow(2).mean().log().item()
@torch.no_grad()
def in_bounds(values):
    size = values.norm()
    values.div_(size)
    return values
"""
LOOP = """
for _ in range(3):
    x, y = torch.randn(8, 3), torch.rand(8, 4)
    pred = net(x)
{body}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def found(body: str) -> list[Answer]:
    body = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
    source = HEAD + LOOP.replace("{body}", body)
    answers = build(recorded(source)).answers
    return [one for one in answers if one.code == "write-through-alias" and one.severity == "warning"]


WRITTEN = {
    "a metric's values, clamped": """
shown = pred.detach()
shown.clamp_(0.0, 1.0)  # written
kept.append(psnr(shown, y))
loss = (pred - y).pow(2).mean()
""",
    "in one line": """
kept.append(psnr(pred.detach().clamp_(0.0, 1.0), y))  # written
loss = (pred - y).pow(2).mean()
""",
    "items set through data": """
marks = pred.data
marks[marks < 0] = 0  # written
kept.append(marks.sum().item())
loss = nn.functional.mse_loss(pred, y)
""",
    "noise on what is shown to others": """
noisy = pred.detach()
noisy += torch.randn(8, 4)  # written
kept.append(noisy.tolist())
loss = -(pred * y).tanh().mean()
""",
    "a column by a view, and a view of the result": """
first = pred.detach()[:, 0]
first.neg_()  # written
kept.append(first.max().item())
loss = (pred[:, :2] - y[:, :2]).abs().mean()
""",
}
HEALTHY = {
    "a function for the result itself": """
pred = in_bounds(pred)
loss = (pred - y).pow(2).mean()
""",
    "a function that is given a copy": """
kept.append(clamped(pred.clone(), y))
loss = (pred - y).pow(2).mean()
""",
    "a function after the loss": """
loss = (pred - y).pow(2).mean()
kept.append(clamped(pred, y))
""",
    "a result in bounds for the loss": """
with torch.no_grad():
    pred.clamp_(0.0, 1.0)
    kept.append(pred.mean().item())
loss = (pred - y).pow(2).mean()
""",
    "a copy": """
shown = pred.detach().clone()
shown.clamp_(0.0, 1.0)
kept.append(psnr(shown, y))
loss = (pred - y).pow(2).mean()
""",
    "out of place": """
shown = pred.detach()
shown = shown.clamp(0.0, 1.0)
kept.append(psnr(shown, y))
loss = (pred - y).pow(2).mean()
""",
    "after the loss": """
loss = (pred - y).pow(2).mean()
shown = pred.detach()
shown.clamp_(0.0, 1.0)
kept.append(psnr(shown, y))
""",
    "written for the result itself": """
pred.data.clamp_(0.0, 1.0)
loss = (pred - y).pow(2).mean()
""",
    "normalised for the result itself": """
inside = pred.detach()
size = inside.norm()
inside.div_(size)
loss = (pred - y).pow(2).mean()
""",
    "a loss that is logged": """
each = (pred - y).pow(2).mean()
shown = each.detach()
shown.mul_(100)
kept.append(shown.item())
loss = each * 2
""",
    "losses of which the mean is taken": """
each = (pred - y).pow(2).sum(1)
shown = each.detach()
shown.clamp_(max=1.0)
kept.append(shown.max().item())
loss = each.mean()
""",
    "what is not used afterwards": """
state = pred.tanh()
loss = (pred - y).pow(2).mean()
state = state.detach()
state[0] = 0.0
kept.append(state.sum().item())
""",
    "a use that no pass comes to": """
loss = (pred - y).pow(2).mean()
shown = pred.detach()
shown.clamp_(0.0, 1.0)
kept.append(psnr(shown, y))
kept.append((pred - y).pow(2).mean().item())
""",
    "parameters in bounds": """
weight = net.weight.data
weight.clamp_(-1.0, 1.0)
kept.append(weight.max().item())
loss = (net(x) - y).pow(2).mean()
""",
    "a result without a graph": """
with torch.no_grad():
    quiet = net(x)
shown = quiet.detach()
shown.clamp_(0.0, 1.0)
kept.append(shown.max().item())
loss = (pred - quiet).pow(2).mean()
""",
}


@pytest.mark.parametrize("body", WRITTEN.values(), ids=WRITTEN)
def test_that_a_result_is_written_aside_is_told(body: str) -> None:
    (answer,) = found(body)
    source = HEAD + LOOP.replace("{body}", "\n".join(f"    {line}" for line in body.strip("\n").splitlines()))
    assert answer.causes[0].line == line_of(source, "# written")
    assert "also changed pred itself" in answer.text


def test_a_function_that_writes_what_it_is_given_without_a_graph_is_told() -> None:
    (answer,) = found("kept.append(clamped(pred, y))\nloss = (pred - y).pow(2).mean()")
    assert answer.causes[0].line == line_of(HEAD, "# in the metric")
    assert "what the function is given itself" in answer.text


@pytest.mark.parametrize("body", HEALTHY.values(), ids=HEALTHY)
def test_writes_that_change_no_loss_are_no_warning(body: str) -> None:
    assert found(body) == []
