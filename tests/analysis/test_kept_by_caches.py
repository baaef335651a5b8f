"""A cache that an evaluation under no_grad has filled is what keeps gradients from coming in training."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import functools
import torch
from torch import nn

class Prompted(nn.Module):
    def __init__(self):
        super().__init__()
        self.prompt, self.head = nn.Parameter(torch.ones(3)), nn.Linear(3, 1)
        self.kept = {{}}
    def encode(self, factor):
        return torch.tanh(self.prompt * factor)
{cached}
    def forward(self, x):
        return self.head({shaped} * self.vector(2.0)).sum()

net = Prompted()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
{before}
for step in range(3):
    optimizer.zero_grad()
    net(torch.ones(2, 3)).backward()
    optimizer.step()
"""
DECORATED = """
    @functools.lru_cache(maxsize=None)  # here
    def vector(self, factor):
        return torch.tanh(self.prompt * factor)
"""
OF_ANOTHER = """
    @functools.cache  # here
    def vector(self, factor):
        return self.encode(factor)
"""
IN_A_DICT = """
    def vector(self, factor):
        if factor not in self.kept:
            self.kept[factor] = self.encode(factor)  # here
        return self.kept[factor]
"""
IN_AN_ATTRIBUTE = """
    once = None
    def vector(self, factor):
        if self.once is None:
            self.once = self.encode(factor)  # here
        return 1 * self.once
"""
AFTER_A_RETURN = """
    def vector(self, factor):
        if hasattr(self, "once"):
            return self.once * 1
        self.once = torch.tanh(self.prompt * factor)  # here
        return self.once * 1
"""
NAMED_FIRST = """
    def vector(self, factor):
        if (factor, 1) not in self.kept:
            vector = torch.tanh(self.prompt * factor)
            self.kept[factor, 1] = vector  # here
        vector = self.kept[factor, 1]
        return vector * 1
"""
BY_A_HELPER_FOR_ALL = """
    once = None
    def shaped(self, values):
        return values.view(1, 3)
    def vector(self, factor):
        if self.once is not None:
            return self.once
        vector = torch.tanh(self.prompt * factor)
        self.once = self.shaped(vector)  # here
        return self.once
"""
BY_A_HELPER_EACH_TIME = """
    once = None
    def shaped(self, values):
        return values.view(1, 3)
    def vector(self, factor):
        if self.once is None or torch.is_grad_enabled():
            vector = torch.tanh(self.prompt * factor)
            self.once = self.shaped(vector)
        return self.once
"""
EMPTIED = """
    once = None
    def vector(self, factor):
        if self.once is None:
            self.once = self.encode(factor)
        once, self.once = self.once, None
        return 1 * once
"""
NO_CACHE = """
    def vector(self, factor):
        return self.encode(factor)
"""
EVALUATED = "with torch.no_grad():\n    net(torch.ones(2, 3))"


def told(cached: str, before: str) -> tuple[list[int], str]:
    shaped = "self.shaped(x[0])" if "shaped" in cached else "x"
    source = PROGRAM.format(cached=cached, before=before, shaped=shaped)
    answers = build(recorded(source)).answers
    return [one.causes[0].line for one in answers if one.code == "leaf-unreached"], source


@pytest.mark.parametrize(
    "cached",
    [DECORATED, OF_ANOTHER, IN_A_DICT, IN_AN_ATTRIBUTE, AFTER_A_RETURN, NAMED_FIRST, BY_A_HELPER_FOR_ALL],
)
def test_the_line_that_keeps_comes_first(cached: str) -> None:
    lines, source = told(cached, EVALUATED)
    assert lines == [line_of(source, "# here")]
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]
    assert [cause.line for cause in answer.causes] == lines
    assert f"line {line_of(source, 'with torch.no_grad')}" not in answer.text


@pytest.mark.parametrize(
    ("cached", "before"),
    [
        (NO_CACHE, EVALUATED),
        (EMPTIED, EVALUATED),
        (BY_A_HELPER_EACH_TIME, EVALUATED),
        (DECORATED, EVALUATED + "\nPrompted.vector.cache_clear()\nPrompted.vector = Prompted.vector.__wrapped__"),
        (IN_A_DICT, EVALUATED + "\nnet.encode = lambda factor: net.prompt * factor\nPrompted.vector = Prompted.encode"),
    ],
)
def test_what_is_computed_anew_is_not_told(cached: str, before: str) -> None:
    assert told(cached, before)[0] == []
