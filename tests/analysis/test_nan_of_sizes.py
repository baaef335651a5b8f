"""A mean of no elements and a deviation of one value are NaN by their size: named, and not what takes them."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

EMPTY = """
import torch
net = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(4):
    chosen = torch.zeros(6, dtype=torch.bool) if step == 2 else torch.ones(6, dtype=torch.bool)
    out = net(torch.ones(6, 4))
    box = MEAN  # born
    loss = out.square().mean() + 0.5 * box
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
ALONE = """
import torch
net = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for length in (5, 6, 1):
    returns = torch.arange(length) + 1.0
    spread = returns.std(OF_ALL) + 1e-8  # born
    weights = (returns - returns.mean()) / spread
    optimizer.zero_grad()
    (net(torch.ones(length, 4)).squeeze(1) * weights).sum().backward()
    optimizer.step()
"""


def _found(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == "gradient-not-finite"]


@pytest.mark.parametrize("mean", ["out[chosen].abs().mean()", "torch.mean((out[chosen] - 1) ** 2)"])
def test_a_mean_of_no_elements_is_named_and_not_the_sum_that_takes_it(mean: str) -> None:
    source = EMPTY.replace("MEAN", mean)
    (answer,) = _found(source)
    assert "no elements" in answer.text and [one.line for one in answer.causes] == [line_of(source, "# born")]
    assert not _found(source.replace("torch.zeros(6, dtype=torch.bool) if", "torch.ones(6, dtype=torch.bool) if"))


def test_a_deviation_of_one_value_is_named_and_not_the_division_that_takes_it() -> None:
    source = ALONE.replace("OF_ALL", "")
    (answer,) = _found(source)
    assert "a single value" in answer.text and [one.line for one in answer.causes] == [line_of(source, "# born")]
    assert not _found(ALONE.replace("OF_ALL", "unbiased=False"))


def test_what_is_not_finite_for_another_reason_is_not_put_down_to_sizes() -> None:
    source = ALONE.replace("OF_ALL", "unbiased=False").replace("+ 1e-8", "* 0")
    assert all("single value" not in one.text for one in _found(source)) and _found(source)


def test_an_infinity_that_was_filled_in_is_not_put_down_to_a_row_of_them() -> None:
    """Of log_softmax, and a mask that multiplies: 0 * -inf."""
    source = """
import torch
z = torch.randn(4, 4, requires_grad=True)
eye = torch.eye(4, dtype=torch.bool)
logp = z.masked_fill(eye, float("-inf")).log_softmax(1)
(logp * (~eye).float()).sum().backward()
"""
    (answer,) = _found(source)
    assert "0 * inf is NaN" in answer.text and "every entry" not in answer.text and "each row" not in answer.advice
    (row,) = _found(source.replace("(eye,", "(eye | True,"))
    assert "every entry of a row is -inf" in row.text
