"""Calls that take a parameter and compute nothing with it are not told as its use; nor is None of what was there."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

UNUSED = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.never = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    def forward(self, x):
        return self.used(x)
net = Net()
{}
net(torch.ones(2, 3)).sum().backward()
print(net.never.weight.grad)
"""
NOTHING_COMPUTED = {
    "switched": "net.requires_grad_(True)",
    "loaded": "net.load_state_dict(Net().state_dict())",
    "saved": "saved = net.state_dict()",
    "converted": "net.double().float()",
    "written": "torch.nn.utils.vector_to_parameters(torch.ones(24), net.parameters())",
    "asked about": "torch.autograd.grad(net(torch.ones(1, 3)).sum(), net.never.weight, allow_unused=True)",
}


def whys(source: str, name: str) -> set[str]:
    return {row.why for one in build(recorded(source)).backwards for row in one.gradients if row.name == name}


@pytest.mark.parametrize("line", NOTHING_COMPUTED.values(), ids=NOTHING_COMPUTED)
def test_a_call_that_computes_nothing_is_no_use(line: str) -> None:
    (why,) = {why for why in whys(UNUSED.format(line), "net.never.weight") if "asked" not in why}
    assert "no call was seen to use it" in why, why


def test_a_call_that_computes_is_a_use() -> None:
    assert "used at line 9" in "".join(whys(UNUSED.format("h = net.never.weight * 2"), "net.never.weight"))


def test_what_cleared_a_gradient_is_no_use_either() -> None:
    source = """
import torch
net = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
net(torch.ones(2, 3)).sum().backward()
optimizer.zero_grad()
w = torch.ones(3, requires_grad=True)
w.sum().backward()
"""
    assert {why.partition(",")[0] for why in whys(source, "net.weight") if why} == {"used at line 4"}


def test_the_gradient_of_a_result_that_autograd_grad_left_there_is_not_none() -> None:
    source = """
        import torch
        a = torch.ones(3, requires_grad=True)
        h = a * 2
        h.retain_grad()
        torch.autograd.grad(h.sum(), a)
        h.grad
    """
    assert not [row for row in build(recorded(source)).lines if "is None" in " ".join(row.notes)]
    source = source.replace("h.retain_grad()", "h.sum()")
    assert [row for row in build(recorded(source)).lines if "is None" in " ".join(row.notes)]
