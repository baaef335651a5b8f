"""A graph that a function kept and gave to the next call, too: the lines that keep it, and the condition, are meant."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

MODEL = """
import torch
w = torch.ones(3, requires_grad=True)
class Basis:
    def __init__(self):
        self._key = self._first = self._second = None
        self._all = {}
    def make(self, x):
        return (w * x).exp()
    def prepare(self, x):
        if self._key is not None and torch.equal(self._key, x):  # condition
            return self._first, self._second
        first = (w * x).exp()
        self._key = x.clone()
        self._first = first  # keeps
        self._second = first.sin()  # keeps too
        return self._first, self._second
    def energy(self, x):
        first, second = self.prepare(x)  # called
        return (first * second * x).sum()
basis = Basis()
x = torch.ones(3)
for _ in range(2):
    basis.energy(x).backward()
"""
BODY = MODEL[MODEL.index("        if self._key") : MODEL.index("    def energy")]


def causes(source: str) -> list[int]:
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "graph-used-twice"]
    return [cause.line for cause in answer.causes]


@pytest.mark.parametrize(
    ("body", "call", "keeps"),
    [
        (BODY, "first, second = self.prepare(x)  # called", ["# keeps", "# condition", "# keeps too"]),
        (
            "        if self._key is None:  # condition\n"
            "            self._key = x.clone()\n"
            "            self._first = self.make(x)  # keeps\n"
            "        return self._first\n",
            "first = second = self.prepare(x)",
            ["# keeps", "# condition"],
        ),
        (
            "        if 3 not in self._all:  # condition\n"
            "            self._all[3] = (w * x).exp()  # keeps\n"
            "        return self._all[3]\n",
            "first = second = self.prepare(x)",
            ["# keeps", "# condition"],
        ),
    ],
)
def test_the_lines_that_keep_and_the_condition_are_the_causes(body: str, call: str, keeps: list[str]) -> None:
    source = MODEL.replace(BODY, body).replace("first, second = self.prepare(x)  # called", call)
    assert set(causes(source)) == {line_of(source, one) for one in keeps}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # what is used in a loop was asked for once: the caller keeps it
        ("        return (first * second * x).sum()\n",
         "        for _ in range(2):\n            (first * second * x).sum().backward()\n"),
        # nothing of the object is given
        ("            return self._first, self._second\n", "            return first_of_all\n"),
    ],
)  # fmt: skip
def test_other_lines_are_meant_where_the_function_does_not_give_it_again(old: str, new: str) -> None:
    assert old in MODEL
    source = "first_of_all = None\n" + MODEL.replace(old, new)
    source = source.replace("basis.energy(x).backward()", "basis.energy(x)" if "for _" in new else "out(basis, x)")
    if "first_of_all" in new:
        source = source.replace(
            "basis = Basis()",
            "def out(basis, x):\n    global first_of_all\n    first_of_all = first_of_all or basis.prepare(x)\n"
            "    first, second = basis.prepare(x)\n    (first * second).sum().backward()\nbasis = Basis()",
        )
    assert line_of(source, "# condition") not in causes(source)
