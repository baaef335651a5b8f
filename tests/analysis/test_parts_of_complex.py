"""Complex parameters of which one part alone is used."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
w = torch.nn.Parameter(torch.randn(4, dtype=torch.cfloat))
optimizer = torch.optim.SGD([w], lr=0.1)
for step in range(3):
    x = torch.randn(5, 4, dtype=torch.cfloat)
    y = USED  # used
    loss = LOSS
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(w.imag)
"""


def found(used: str, loss: str) -> list[list[int]]:
    source = PROGRAM.replace("USED", used).replace("LOSS", loss)
    answers = [one for one in build(recorded(source)).answers if one.code == "imaginary-part-lost"]
    return [[cause.line - line_of(source, "# used") for cause in one.causes] for one in answers]


@pytest.mark.parametrize("used", ["x * w.real", "x * torch.real(w)", "x * w.imag.abs()"])
def test_one_part_is_used(used: str) -> None:
    assert found(used, "y.abs().mean()") == [[0]]


@pytest.mark.parametrize(
    ("used", "loss"),
    [
        ("x * w", "y.real.pow(2).mean()"),
        ("x * w.real", "y.abs().mean() + w.abs().sum()"),
        ("x * w.real + w.imag", "y.abs().mean()"),
        ("x.real * w", "y.abs().mean()"),
    ],
)
def test_both_are(used: str, loss: str) -> None:
    assert found(used, loss) == []
