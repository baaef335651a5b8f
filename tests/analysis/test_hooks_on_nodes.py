"""Hooks on nodes of the graph: h.grad_fn.register_hook, h.grad_fn.register_prehook."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

LOOP = """
import torch
torch.manual_seed(0)
first, second = torch.nn.Linear(4, 8), torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)
def block(gradients):
    return tuple(torch.zeros_like(one) for one in gradients)  # zeros
for step in range(6):
    h = first(torch.randn(16, 4)).tanh()
    h.grad_fn.register_prehook(block)  # registers
    loss = second(h).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
CLASS = """
import torch
torch.manual_seed(0)
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 8), torch.nn.Linear(8, 1)
    def forward(self, x):
        h = torch.relu(self.first(x))
        node = h.grad_fn
        node.register_hook(lambda got, given: tuple(None if g is None else g * 0 for g in got))  # zeros
        return self.second(h)
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(6):
    loss = net(torch.randn(16, 4)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def told(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.severity != "note"]


@pytest.mark.parametrize(
    ("source", "lines"), [(LOOP, ["# zeros", "# registers"]), (CLASS, ["# zeros"])], ids=["loop", "class"]
)
def test_zeros_that_a_hook_on_a_node_gives_are_told_and_not_put_down_to_the_function(
    source: str, lines: list[str]
) -> None:
    (one,) = told(source)
    assert one.code == "hook-zeroes-gradient"
    assert [cause.line for cause in one.causes] == [line_of(source, line) for line in lines]


@pytest.mark.parametrize(
    ("source", "old", "new"),
    [
        # it turns the gradient round, or limits it
        (LOOP, "torch.zeros_like(one)", "-one"),
        (CLASS, "g * 0", "g.clamp(-1, 1)"),
        # another way leads to the layer
        (LOOP, "second(h).square().mean()", "second(h).square().mean() + first(torch.randn(16, 4)).square().mean()"),
        # no optimizer steps what is behind it
        (LOOP, "[*first.parameters(), *second.parameters()]", "second.parameters()"),
        # it is taken away again
        (LOOP, "h.grad_fn.register_prehook(block)", "h.grad_fn.register_prehook(block).remove()"),
    ],
)
def test_other_hooks_on_nodes_are_none(source: str, old: str, new: str) -> None:
    assert old in source
    assert {one.code for one in told(source.replace(old, new))} <= {"never-stepped"}


def test_zeros_of_the_function_itself_are_put_down_to_it_where_the_hook_is_on_another_node() -> None:
    source = LOOP.replace("first(torch.randn(16, 4)).tanh()", "(first(torch.randn(16, 4)) - 99).relu()").replace(
        "h.grad_fn.register_prehook(block)  # registers",
        "late = second(h)\n    late.grad_fn.register_hook(lambda got, given: None)",
    )
    assert [one.code for one in told(source)] == ["gradient-always-zero"]
