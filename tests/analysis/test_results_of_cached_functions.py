"""Results with graphs that the cache of their function keeps: the line that makes it one is the cause."""

from __future__ import annotations

import pytest

from tests.analysis.building import line_of
from tests.analysis.test_kept_graphs import HEAD, found

LOOP = """
for step in range(6):
    x = torch.randn(100)
    loss = (feature(x) + feature(x)).sum()
    loss.backward()
"""
OWN = """
def memoize(function):
    memo = {}
    def kept(*args):
        if args not in memo:
            memo[args] = function(*args)  # keeps
        return memo[args]
    return kept
@memoize
def feature(x):
    return (w * x).exp()
"""
KEPT = {
    "a function of tensors": """
import functools
@functools.lru_cache(maxsize=None)  # keeps
def feature(x):
    return (w * x).exp()
"""
    + LOOP,
    "a method that calls itself": """
from functools import cache
class Powers:
    @cache  # keeps
    def of(self, x, k):
        return x if k == 0 else w * self.of(x, k - 1)
powers = Powers()
def feature(x):
    outs = []
    for k in range(3):
        outs.append(powers.of(x, k))
    return torch.stack(outs).sum(0)
"""
    + LOOP,
    "an attribute that is the function with a cache": """
import functools
class Powers:
    def __init__(self):
        self.of = functools.lru_cache(maxsize=None)(self._of)  # keeps
    def _of(self, x):
        return (w * x).exp()
feature = Powers().of
"""
    + LOOP,
    "what a module makes of it": """
from functools import cache
class Net(torch.nn.Module):
    def forward(self, x):
        return (w * x).exp()
net = Net()
@cache  # keeps
def encode(x):
    return net(x)
def feature(x):
    z = encode(x)
    return z * 2
"""
    + LOOP,
    "what a number is found by": """
from functools import lru_cache
@lru_cache(maxsize=None)  # keeps
def size_of(h):
    return float(h.detach().abs().max())
def feature(x):
    h = w * x
    return h / size_of(h)
"""
    + LOOP,
    "a decorator of the program's own": OWN + LOOP,
    "of which no pass walks any": """
from functools import cache
@cache  # keeps
def feature(x):
    return (w * x).exp()
total = 0
for step in range(30):
    total += feature(torch.randn(100)).sum().item()
""",
}
LETS_GO = {
    "the last one only": KEPT["a function of tensors"].replace("None", "1"),
    "no cache": KEPT["a function of tensors"].replace("@functools.lru_cache(maxsize=None)", ""),
    "emptied after each step": KEPT["a function of tensors"] + "    feature.cache_clear()\n",
    "results without graphs": KEPT["a function of tensors"].replace("w * x", "w.detach() * x") + "    w.sum()\n",
    "functions that a cached one makes": """
from functools import cache
@cache
def feature_of(k):
    def feature(x):
        return (w * x * k).exp()
    return feature
feature = feature_of(2)
"""
    + LOOP,
    "a decorator that keeps nothing": OWN.replace("memo[args] = function", "return function") + LOOP,
}


@pytest.mark.parametrize("case", KEPT)
def test_the_line_that_keeps_what_the_function_returns_is_the_cause(case: str) -> None:
    (answer,) = found(KEPT[case])
    line = line_of(HEAD + KEPT[case], "# keeps")
    assert [cause.line for cause in answer.causes] == [line]
    assert answer.text.startswith(f"Line {line}: ")


@pytest.mark.parametrize("case", LETS_GO)
def test_a_cache_that_lets_go_is_not_blamed(case: str) -> None:
    assert found(LETS_GO[case]) == []
