"""A name that was seen in some runs is handed on to others only where the same call reads it; none is another's."""

from textwrap import dedent

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Report
from gradscope.analysis.view import RunView
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
from torch import nn
"""


def report_of(source: str, ops: bool = False) -> Report:
    return build(recorded(HEAD + dedent(source)), RunView(ops=ops))


CRITIC = """
net = nn.Linear(2, 1)
def critic(x):
    return net(x)
def update(x):
    q = critic(x)
    loss = (q * 2).sum()
    other = torch.tanh(critic(x)).sum()
    return loss + other
for step in range(40):
    update(torch.ones(3, 2))
"""


def test_what_a_function_gave_to_somebody_else_has_not_the_name_that_one_caller_stored() -> None:
    ops = report_of(CRITIC, ops=True).ops
    doubled = [op.inputs[0] for op in ops if op.line == line_of(HEAD + CRITIC, "loss = (q * 2)") and "mul" in op.func]
    taken = [op.inputs[0] for op in ops if op.func == "torch.tanh"]
    assert set(doubled) == {"q"}  # (in the last runs, too, in which no name was looked at)
    assert "q" not in taken


def test_a_library_call_made_more_than_what_was_named() -> None:
    source = """
    first = [torch.ones(size) for size in range(2, 22)][0]
    """
    (row,) = report_of(source).lines
    assert (row.name, row.shape) == ("first", "(2,)")


def test_a_comprehensions_variable_is_gone_after_it() -> None:
    source = """
    net = nn.Linear(2, 1)
    def norms():
        sizes = [p.norm() for p in net.parameters()]
        net(torch.ones(3, 2)).sum().backward()
        return sizes
    norms()
    """
    (one,) = report_of(source).backwards
    assert [row.name for row in one.gradients] == ["net.weight", "net.bias"]


def test_a_name_from_elsewhere_is_not_one_that_the_frame_has_for_something_else() -> None:
    source = """
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(2, 1)
        def forward(self, x):
            return self.body(x)
    class Teacher:
        def __init__(self, net):
            self.net, self.slow = net, Net()
            self.slow.load_state_dict(net.state_dict())
        @torch.no_grad()
        def update(self):
            for old, new in zip(self.slow.parameters(), self.net.parameters()):
                old.mul_(0.9).add_(new)
    teacher = Teacher(Net())
    for step in range(40):
        teacher.net(torch.ones(1, 2)), teacher.slow(torch.ones(1, 2))
        teacher.update()
    """
    names = {write.name for write in report_of(source).inplace_writes if write.op == "Tensor.mul_"}
    assert not {name for name in names if name.startswith("self.body")}


def test_the_line_of_a_pass_calls_its_root_as_it_reads_it() -> None:
    source = """
    def step(x):
        loss = part = (x * 2).sum()
        loss.backward()
    for _ in range(3):
        step(torch.ones(2, requires_grad=True))
    """
    (one,) = report_of(source).backwards
    assert one.roots == ("loss",)


def test_an_answer_calls_parameters_as_the_outermost_object_has_them() -> None:
    source = """
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(2))
            self.body = nn.Linear(2, 2)
        def forward(self, x):
            return self.body(x) * self.gain
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(4):
        net(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    """
    (answer,) = report_of(source).answers
    assert "net.gain" in answer.text
    assert "self." not in answer.text


def test_an_item_has_not_the_name_that_another_item_of_its_list_has() -> None:
    """A comprehension makes several at once: the next one is no later run of the first, whose name it were."""
    source = """
    def make_scale(by):
        return lambda h: h * by
    net = nn.Linear(3, 3)
    ws = [torch.randn(3, requires_grad=True) for _ in range(2)]
    for step in range(40):
        scale = make_scale(ws[0])
        (scale(torch.ones(2, 3)) + net(torch.ones(2, 3))).sum().backward()
    """
    (answer,) = report_of(source).answers
    assert answer.subject == "ws[1]"


@pytest.mark.parametrize("kept", ["history.append(loss)", "history['last'] = loss", "history[step] = loss"])
def test_what_is_kept_in_a_list_later_has_at_its_line_the_name_that_the_line_stores(kept: str) -> None:
    report = report_of(
        f"""
        net, history = nn.Linear(2, 1), {"[]" if "append" in kept else "{}"}
        for step in range(20):
            loss = net(torch.ones(3, 2)).pow(2).mean()
            loss.backward()
            {kept}
        """
    )
    assert {row.name for row in report.lines if "loss" in row.name or "history" in row.name} == {"loss"}
    assert [graph.root for graph in report.graphs] == ["loss"]
