"""What is advised in place of a write does what the write does."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

ITEMS = """
import torch
data = torch.rand(4, 3)
class Items:
    def __getitem__(self, i):
        x = data[i]
        {write}
        return x
for epoch in range(3):
    print(torch.stack([Items()[i] for i in range(4)]).mean())
"""
READ_AGAIN = """
import torch
def changed(x):
    {write}
    return x
x = torch.rand(3) + 1
a = changed(x)
b = changed(x)
print(torch.dist(a, b))
"""
ARRAYS = """
import numpy as np, torch
data, model = np.random.rand(4, 3).astype(np.float32), torch.nn.Linear(3, 1)
for epoch in range(3):
    for i in range(4):
        x = torch.from_numpy(data[i])
        {write}
        model(x).sum().backward()
"""


@pytest.mark.parametrize(
    ("program", "write", "instead"),
    [
        (ITEMS, "x /= 255.0", "(x = x / …)"),
        (ITEMS, "x.mul_(2)", "(x = x * …)"),
        (ITEMS, "x += torch.randn(3)", "(x = x + …)"),
        (ITEMS, "x -= 0.1 * torch.randn(3)", "(x = x - …)"),
        (READ_AGAIN, "x /= 2", "(x = x / …)"),
        (READ_AGAIN, "x.neg_()", "there, or"),
        (ARRAYS, "x.div_(255)", "(x = x / …)"),
    ],
)
def test_the_sign_is_that_of_the_write(program: str, write: str, instead: str) -> None:
    answers = build(recorded(program.format(write=write))).answers
    (text,) = [one.text for one in answers if one.code in ("data-written-again", "argument-written")]
    assert f"Compute a new tensor {instead}" in text or f"Compute a new tensor there {instead}" in text
    assert ("factor" in text) <= (".mul_" in write)
