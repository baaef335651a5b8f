"""A head that is computed in each pass for nothing and evaluated is found; one that is not meant to learn is not."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

PROGRAM = """import torch
from torch import nn
F = nn.functional
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 6)
        self.age = nn.Linear(6, 1)
        self.income = nn.Linear(6, 1)
    def forward(self, x):
        h = self.body(x).relu()
        return {"age": self.age(h),
                "income": self.income(h)}  # makes
net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
x, y = torch.randn(8, 4), torch.randn(8, 1)
for step in range(4):
    out = net(x)
    loss = F.mse_loss(out["age"], y) + F.mse_loss(out["age"], y + 1)  # second
    opt.zero_grad()
    loss.backward()
    opt.step()
with torch.no_grad():
    print((net(x)["income"] - y).abs().mean().item())  # evaluates
"""
TUPLE = (
    PROGRAM.replace('return {"age": self.age(h),', "age = self.age(h)")
    .replace(
        '        "income": self.income(h)}  # makes', "income = self.income(h)  # makes\n        return age, income"
    )
    .replace("out = net(x)", "first, second = net(x)")
    .replace('out["age"]', "first")
    .replace('net(x)["income"]', "net(x)[1]")
)


def found(source: str) -> list[Answer]:
    return [answer for answer in build(recorded(source)).answers if answer.code == "layer-left-out"]


@pytest.mark.parametrize(
    "source", [PROGRAM, TUPLE, PROGRAM.replace('"income": self.income(h)', '"income": self.income(h).exp()')]
)
def test_the_line_that_makes_the_result_is_the_cause(source: str) -> None:
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# makes")]
    assert "net.income.weight and net.income.bias never got a gradient" in answer.text


HEALTHY = {
    "the loss has it": PROGRAM.replace('mse_loss(out["age"], y + 1)', 'mse_loss(out["income"], y + 1)'),
    "its loss comes later": PROGRAM.replace(
        "    opt.zero_grad()", '    if step > 10:\n        loss = loss + out["income"].mean()\n    opt.zero_grad()'
    ),
    "its loss came before": PROGRAM.replace(
        "    opt.zero_grad()", '    if step < 1:\n        loss = loss + out["income"].mean()\n    opt.zero_grad()'
    ),
    "its loss is made elsewhere, at times": PROGRAM.replace(
        "# second", '# second\n    loss = loss + out["income"].mean() if step > 10 else loss'
    ),
    "losses by computed names": PROGRAM.replace("# second", "\n    loss = sum(out[key].mean() for key in ['age'])"),
    "nothing evaluates it": PROGRAM.replace('net(x)["income"]', 'net(x)["age"]'),
    "frozen": PROGRAM.replace("net = Net()", "net = Net()\nnet.income.requires_grad_(False)"),
    "loaded": PROGRAM.replace("net = Net()", "net = Net()\nnet.load_state_dict(Net().state_dict())"),
    "not held": PROGRAM.replace("net.parameters()", "[*net.body.parameters(), *net.age.parameters()]"),
    "trained by another optimizer": PROGRAM.replace(
        "with torch",
        "other = torch.optim.SGD(net.income.parameters(), lr=0.1)\nnet(x)['income'].sum().backward()\nwith torch",
    ),
    "thrown away by its name": TUPLE.replace("first, second =", "first, _ ="),
    "taken by its place": TUPLE.replace("first, second = net(x)", "first = net(x)[0]"),
    "its numbers are taken": PROGRAM.replace("# second", '# second\n    mean = out["income"].detach().mean()'),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_a_head_that_may_be_meant_so_is_none(case: str) -> None:
    assert found(HEALTHY[case]) == []


def test_heads_of_which_one_is_chosen_are_none() -> None:
    source = PROGRAM.replace(
        'return {"age": self.age(h),', "made = [one(h) for one in (self.age, self.income)]"
    ).replace('        "income": self.income(h)}', "return {'age': made[0], 'income': made[1]}")
    assert found(source) == []
