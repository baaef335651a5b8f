"""Gradients that are NaN whatever the loss scale: a GradScaler would skip all steps, and the line is named."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
import torch.nn.functional as F
from torch import nn
torch.manual_seed(0)
net = nn.Linear(3, 4, bias=False)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale={scale})
for step in range(4):
    x = torch.randn(5, 3)
    {empty}
    with torch.autocast("cpu", dtype=torch.float16):
        h = net(x)
        y = {norm}
        loss = (y[1:].float() - 0.1).pow(2).mean()
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
"""
NORM = "F.normalize(h, dim=-1)"


def lines(norm: str = NORM, empty: str = "x[0] = 0.0", scale: str = "1024.0") -> tuple[list[int], str]:
    source = PROGRAM.format(norm=norm, empty=empty, scale=scale)
    found = [one for one in build(recorded(source)).answers if one.code == "gradient-not-finite"]
    return [cause.line for answer in found for cause in answer.causes], source


def test_what_is_zero_in_half_precision() -> None:
    found, source = lines()
    assert found == [line_of(source, "y = ")]


@pytest.mark.parametrize(
    ("norm", "empty", "scale"),
    [
        ("F.normalize(h.float(), dim=-1)", "x[0] = 0.0", "1024.0"),
        (NORM, "x[0, :2] = 0.0", "1024.0"),
        (NORM, "x[0] *= float(step != 1)", "1024.0"),
        (NORM, "x[0, :2] = 0.0", "2.0**40"),
    ],
)
def test_no_zero_or_only_at_times_or_a_scale_too_large(norm: str, empty: str, scale: str) -> None:
    assert lines(norm, empty, scale)[0] == []
