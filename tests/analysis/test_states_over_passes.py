"""A state that leads from one pass to the next is the line to change, and no sum that is made of it within a pass."""

from __future__ import annotations

import pytest

from tests.analysis.building import line_of
from tests.analysis.test_carried_graphs import found

STATE = """
import torch
lin, head = torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)
class Leaky:
    def __init__(self):
        self.mem = torch.zeros(4, 3)
    def __call__(self, x):
        mem = 0.9 * self.mem + x
        spikes = torch.sigmoid(mem)
        self.mem = mem - spikes  # carries
        return spikes
leaky = Leaky()
for chunk in range(12):
    count = 0
    for x in torch.randn(3, 4, 2):
        count = count + leaky(lin(x))
    loss = head(count).sum()
    loss.backward(retain_graph=True)
"""


@pytest.mark.parametrize(
    "source",
    [STATE, STATE + "    shown = loss * 2\n", STATE.replace("count = count + leaky", "count = leaky")],
    ids=["with a sum", "a loss that is used later", "no sum"],
)
def test_the_state_is_named(source: str) -> None:
    (answer,) = found(source, "graph-carried-along")
    assert [cause.line for cause in answer.causes] == [line_of(source, "# carries")]


LET_GO = STATE.replace("(retain_graph=True)", "()") + "    leaky.mem = leaky.mem.detach()\n"
EVERY_THIRD = STATE + "    if chunk % 3 == 2:\n        leaky.mem = leaky.mem.detach()\n"
ENCODED_ONCE = """
import torch
enc, head = torch.nn.Linear(3, 5), torch.nn.Linear(5, 1)
z = torch.tanh(enc(torch.randn(4, 3)))
for chunk in range(12):
    total = 0
    for k in range(3):
        total = total + head(z * k)
    total.sum().backward(retain_graph=True)
"""


@pytest.mark.parametrize("source", [LET_GO, EVERY_THIRD, ENCODED_ONCE], ids=["let go", "in time", "encoded once"])
def test_what_ends_in_time_is_not_named(source: str) -> None:
    assert not found(source, "graph-carried-along")
