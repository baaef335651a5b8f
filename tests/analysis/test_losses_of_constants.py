"""backward() on a loss of a batch that has nothing to compute one from: the constants that stand for it are named."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
w = torch.ones(3, requires_grad=True)
def losses(out, labels):
    if not labels:
        first = torch.tensor(0.0)
        second = {}
        return first + second
    return out.sum() + out.pow(2).sum()
losses(w * 2, []).backward()
"""


def test_the_constants_are_the_lines_to_change() -> None:
    source = SOURCE.format("torch.zeros(())")
    (answer,) = build(recorded(source)).answers
    assert "from first (line 5) and second (line 6), new constants" in answer.text
    lines = [line_of(source, part) for part in ("first =", "second =", "first + second")]
    assert [cause.line for cause in answer.causes] == lines


@pytest.mark.parametrize("second", ["out.detach().mean()", "out.mean()"])
def test_a_loss_of_something_else_is_told_otherwise(second: str) -> None:
    assert not any("constants" in one.text for one in build(recorded(SOURCE.format(second))).answers)
