"""Gradients in float16 that are zero because they are too small, and those that are zero for other reasons."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

AUTOCAST = """
import torch
from torch import nn
torch.manual_seed(0)
first, second = nn.Linear(8, 32{bias}), nn.Linear(32, 8)
optimizer = torch.optim.Adam([*first.parameters(), *second.parameters()], lr=1e-3)
scaler = torch.amp.GradScaler("cpu")
for step in range(5):
    x = torch.{x}(16, 8) * 0.02
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.{dtype}):
        out = second({act}(first(x)))
    loss = (out.float() - x).square().mean() * {weight}
    {backward}  # here
"""
PLAIN = "loss.backward(); optimizer.step()"
SCALED = "scaler.scale(loss).backward(); scaler.step(optimizer); scaler.update()"


def autocast(
    dtype: str = "float16",
    act: str = "torch.tanh",
    weight: str = "1e-4",
    backward: str = PLAIN,
    bias: str = "",
    x: str = "randn",
) -> str:
    return AUTOCAST.format(dtype=dtype, act=act, weight=weight, backward=backward, bias=bias, x=x)


HALF = """
import torch
from torch import nn
torch.manual_seed(0)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.ModuleList(nn.Linear(16, 16) for _ in range({depth}))
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        for layer in self.body:
            x = torch.sigmoid(layer(x))
        return self.head(x)

def step(net, optimizer, x, y):
    loss = nn.functional.mse_loss(net(x).float(), y)
    optimizer.zero_grad()
    loss.backward()  # here
    optimizer.step()

net = Net().{cast}()
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for _ in range(5):
    x = torch.randn(32, 16, dtype=net.head.weight.dtype)
    step(net, optimizer, x, torch.randn(32, 1) * 1e-3)
"""


def said(source: str) -> list[tuple[str, list[int | None]]]:
    found = [one for one in build(recorded(source)).answers if one.code == "underflow-in-half"]
    return [(one.text, [cause.line for cause in one.causes]) for one in found]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (autocast(), "first.weight"),
        (autocast(bias=", bias=False"), "first.weight"),
        (autocast(act="torch.relu", weight="3e-5"), "first.weight"),
        (HALF.format(depth=9, cast="half"), "net.body.0."),
    ],
)
def test_what_is_too_small_for_float16_is_put_down_to_the_pass(source: str, name: str) -> None:
    [(text, lines)] = said(source)
    assert name in text
    assert lines == [line_of(source, "# here")]


@pytest.mark.parametrize(
    "source",
    [
        autocast("bfloat16"),
        autocast(backward=SCALED),
        autocast(backward="(loss * 65536).backward(); optimizer.step()"),
        autocast(weight="1"),
        autocast(x="zeros"),
        autocast(act="torch.round"),
        autocast(act="(lambda h: torch.relu(h - 50))"),
        autocast(act="(lambda h: h * 0)"),
        autocast().replace("range(5)", "range(2)"),
        HALF.format(depth=9, cast="float"),
        HALF.format(depth=2, cast="half"),
    ],
)
def test_gradients_that_are_large_enough_or_zero_for_another_reason_are_none(source: str) -> None:
    assert said(source) == []


HEADS = """
import torch
from torch import nn
torch.manual_seed(0)
body, near, far = nn.Linear(8, 16), nn.Linear(16, 4), nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 4))
optimizer = torch.optim.Adam([*body.parameters(), *near.parameters(), *far.parameters()], lr=1e-3)
scaler = torch.amp.GradScaler("cpu")
for step in range(8):
    x = torch.randn(64, 8)
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.float16):
        h = torch.tanh(body(x))
        one, two = near(h), far(h)
    loss = (one.float() - x[:, :4]).square().mean() + 1e-6 * (two.float() - x[:, 4:]).square().mean()
    loss.backward()  # here
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("1e-6", "1e-6"),
        ("two.float() - x[:, 4:]", "two.to(torch.float32) - x[:, 4:]"),
        ("1e-6 * (two.float() - x[:, 4:]).square().mean()", "1e-6 * nn.functional.l1_loss(two.float(), x[:, 4:])"),
        ("two.float() - x[:, 4:]", "two - x[:, 4:]"),  # (converted where it meets what is in float32)
    ],
)
def test_a_head_whose_gradient_is_zero_once_it_is_in_float16_while_others_get_theirs(before: str, after: str) -> None:
    source = HEADS.replace(before, after)
    [(text, lines)] = said(source)
    assert "far.* (4) zeros" in text
    assert "before it was put in float16" in text
    assert lines == [line_of(source, "# here")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("dtype=torch.float16", "dtype=torch.bfloat16"),
        ("loss.backward()", "scaler.scale(loss).backward(); scaler.unscale_(optimizer)"),
        ("1e-6 *", "1e-3 *"),
        ("1e-6 *", "1e-16 *"),  # (a scale would not help)
        ("1e-6 *", "0 *"),
        ("1e-6 * (two.float()", "1e-6 * (0 * two.float()"),
        ("far(h)\n", "far(h) * 0\n"),
        ("far(h)\n", "torch.relu(far(h) - 50)\n"),
        ("+ 1e-6", "+ one.float().mean() * 0 + two.float().mean() + 1e-6"),  # (another way leads to them)
        ("two.float()", "two.softmax(-1, dtype=torch.float32)[:, :0].sum() + x[:, 4:]"),
        ("range(8)", "range(3)"),
    ],
)
def test_a_head_that_gets_gradients_or_zeros_for_another_reason_is_none(before: str, after: str) -> None:
    source = HEADS.replace(before, after)
    assert source != HEADS
    assert said(source) == []
