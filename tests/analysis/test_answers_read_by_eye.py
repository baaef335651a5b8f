"""Answers about several statements, layers or tensors name each of them, and only what was so of it."""

from textwrap import dedent

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import recorded

HEAD = """
import torch
from torch import nn
"""


def answers_of(source: str, code: str) -> list[Answer]:
    return [answer for answer in build(recorded(HEAD + dedent(source))).answers if answer.code == code]


TWO_STEPS = """
a, b = nn.Linear(2, 1), nn.Linear(2, 1)
first, second = torch.optim.SGD(a.parameters(), lr=0.1), torch.optim.SGD(b.parameters(), lr=0.1)
for step in range(4):
    a(torch.ones(1, 2)).sum().backward()
    first.step({})
    b(torch.ones(1, 2)).sum().backward()
    second.step({})
"""


def test_each_step_that_applies_old_gradients_is_named_with_its_own_parameters() -> None:
    found = answers_of(TWO_STEPS.format("", ""), "gradients-applied-again")
    lines = [(answer.text.split(":")[0], "a.weight" in answer.text, "b.weight" in answer.text) for answer in found]
    assert lines == [("Line 8", True, False), ("Line 10", False, True)]


def test_a_closure_is_blamed_only_where_the_pass_ran_in_it() -> None:
    handed = answers_of(TWO_STEPS.format("lambda: None", "lambda: None"), "gradients-applied-again")
    assert not [answer for answer in handed if "closure" in answer.text]
    inside = """
    w = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([w], lr=0.1)
    def closure():
        loss = (w * w).sum()
        loss.backward()
        return loss
    for step in range(4):
        optimizer.step(closure)
    """
    (answer,) = answers_of(inside, "gradients-applied-again")
    assert answer.text.startswith("Line 7: the closure begins without clearing")


def test_all_statistics_that_a_checkpointed_line_updates_twice_are_named() -> None:
    source = """
    from torch.utils.checkpoint import checkpoint
    norms = nn.ModuleList([nn.BatchNorm1d(2), nn.BatchNorm1d(2)])
    x = torch.ones(3, 2, requires_grad=True) * torch.rand(3, 1)
    for norm in norms:
        x = checkpoint(lambda y: norm(y) * 2, x, use_reentrant=False)
    x.sum().backward()
    """
    (answer,) = answers_of(source, "checkpoint-updates-twice")
    assert "norms.0.running_mean" in answer.text
    assert "norms.1.running_mean" in answer.text


def test_several_writes_of_one_line_are_one_answer() -> None:
    source = """
    x = torch.ones(3, requires_grad=True)
    y = x.tanh()
    y.data.mul_(2).div_(3)
    y.sum().backward()
    """
    (answer,) = answers_of(source, "gradient-silently-wrong")
    assert answer.text.startswith("Line 6: Tensor.mul_ and Tensor.div_ through <y.data> changed memory")


def test_a_snapshot_names_all_that_it_shares_memory_with() -> None:
    source = """
    net = nn.Linear(2, 1)
    best = net.state_dict()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    net.load_state_dict(best)
    """
    (answer,) = answers_of(source, "snapshot-shares-memory")
    assert "this is the memory of net.weight and net.bias, so SGD.step changed it" in answer.text
