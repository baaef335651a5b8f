"""Graphs that a loop keeps, from the third pass on: the line that keeps them is the cause."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

HEAD = "import torch\nw = torch.ones(100, requires_grad=True)\n"


def found(source: str) -> list[Answer]:
    codes = ("graph-carried-along", "memory-kept-by-graph")
    return [answer for answer in build(recorded(HEAD + source)).answers if answer.code in codes]


CARRIED = {
    "a sum that was there before": """
total = torch.zeros(())
for step in range(4):
    loss = (w * step).sum()
    loss.backward()
    total += loss  # keeps
""",
    "an attribute": """
class Meter:
    def __init__(self):
        self.total = 0
    def update(self, loss):
        self.total += loss  # keeps
meter = Meter()
for step in range(4):
    loss = (w * step).exp().sum()
    loss.backward()
    meter.update(loss)
""",
}


@pytest.mark.parametrize("case", CARRIED)
def test_the_line_that_keeps_is_the_cause(case: str) -> None:
    source = HEAD + CARRIED[case]
    (answer,) = found(CARRIED[case])
    line = line_of(source, "# keeps")
    assert [cause.line for cause in answer.causes] == [line]
    assert answer.text.startswith(f"Line {line}: ")


HEALTHY = {
    "numbers": "total = torch.zeros(())\nfor step in range(4):\n    loss = (w * step).sum()\n    loss.backward()\n"
    "    total += loss.item()\n",
    "detached": "total = torch.zeros(())\nfor step in range(4):\n    loss = (w * step).sum()\n    loss.backward()\n"
    "    total += loss.detach()\n",
    "a sum that a backward pass uses up": "for epoch in range(4):\n    total = torch.zeros(())\n"
    "    for step in range(5):\n        total += (w * step).exp().sum()\n    total.backward()\n",
    "a sum that is begun anew after four": "for step in range(12):\n    if step % 4 == 0:\n        total = 0\n"
    "    loss = (w * step).sum()\n    loss.backward()\n    total = total + loss\n",
    "two passes": "total = 0\nfor step in range(2):\n    loss = (w * step).sum()\n    loss.backward()\n"
    "    total = total + loss\n",
}


@pytest.mark.parametrize("case", HEALTHY)
def test_what_keeps_no_graph_is_not_blamed(case: str) -> None:
    assert found(HEALTHY[case]) == []
