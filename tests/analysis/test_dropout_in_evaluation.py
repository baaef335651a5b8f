"""Dropout as a function that drops in evaluation as well: told where it says nothing of a mode, or is not meant."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
import torch.nn.functional as F
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 1)
        self.drop = nn.Dropout(0.1)
    def forward(self, x):
        h = self.drop(self.first(x).relu())
        h = F.dropout(h, 0.5, training=True)  # here
        return self.last(h)
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
data = [(torch.randn(4, 3), torch.randn(4, 1)) for _ in range(4)]
def train():
    net.train()
    for x, y in data:
        optimizer.zero_grad()
        F.mse_loss(net(x), y).backward()
        optimizer.step()
def evaluate():
    net.eval()
    with torch.no_grad():
        return [F.mse_loss(net(x), y) for x, y in data]
for epoch in range(4):
    train()
    result = evaluate()
"""
CALL = "F.dropout(h, 0.5, training=True)"
ALONE = "h = self.first(x).relu()"


def found(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == "dropout-in-evaluation"]


@pytest.mark.parametrize(
    "call",
    [
        CALL,
        "F.dropout(h, 0.5, True)",
        "nn.functional.dropout(h, p=0.5, training=True)",
        "F.alpha_dropout(h, 0.5, True)",
    ],
)
def test_one_that_is_always_on_beside_one_that_evaluation_turned_off(call: str) -> None:
    source = PROGRAM.replace(CALL, call)
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# here")]
    assert answer.severity == "warning"
    assert "training=True keeps it on" in answer.text


def test_the_other_may_be_a_function_that_follows_the_mode() -> None:
    other = "h = F.dropout(self.first(x).relu(), 0.1, self.training)"
    (answer,) = found(PROGRAM.replace("h = self.drop(self.first(x).relu())", other))
    assert answer.causes[0].line == line_of(PROGRAM, "# here")


def test_what_is_drawn_twice_only_is_told() -> None:
    source = PROGRAM + "x = torch.randn(2, 3)\nwith torch.no_grad():\n    print(torch.equal(net(x), net(x)))\n"
    assert len(found(source)) == 1


def test_one_that_says_nothing_of_a_mode_is_told_without_another() -> None:
    source = PROGRAM.replace("h = self.drop(self.first(x).relu())", ALONE).replace(CALL, "F.dropout(h, 0.5)")
    (answer,) = found(source)
    assert "does not depend on the mode" in answer.text


HEALTHY = {
    "follows the mode": PROGRAM.replace("training=True", "training=self.training"),
    "a mode that is asked for": PROGRAM.replace("training=True", "training=self.training or True"),
    "the only one": PROGRAM.replace("h = self.drop(self.first(x).relu())", ALONE),
    "a name that says it": PROGRAM.replace("class Net", "class MCNet").replace("Net()", "Net()  # MC dropout"),
    "a comment that says it": PROGRAM.replace("# here", "# stays on, always"),
    "several results of one input": PROGRAM
    + "with torch.no_grad():\n    outputs = torch.cat([net(data[0][0]) for _ in range(5)], 1)\n",
    "several results of one input, added up": PROGRAM
    + "total = 0\nwith torch.no_grad():\n    for _ in range(4):\n        total = total + net(data[0][0]) / 4\n",
    "never evaluated": PROGRAM.replace("    result = evaluate()\n", ""),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_what_is_meant_or_follows_the_mode_is_left_alone(case: str) -> None:
    assert found(HEALTHY[case]) == []


ATTENTION = """
import torch
import torch.nn.functional as F
from torch import nn
torch.manual_seed(0)
class Mixer(nn.Module):
    def __init__(self, drop=0.2):
        super().__init__()
        self.drop, self.dropout = drop, nn.Dropout(drop)
        self.qkv, self.out = nn.Linear(4, 12), nn.Linear(4, 1)
    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.drop)  # here
        return self.out(y).mean(1)
net = Mixer()
other = Mixer()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
data = [(torch.randn(4, 3, 4), torch.randn(4, 1)) for _ in range(30)]
for epoch in range(3):
    net.train()
    for x, y in data:
        optimizer.zero_grad()
        F.mse_loss(net(x), y).backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        total = sum(F.mse_loss(net(x), y).item() for x, y in data)
"""
SHARE = "dropout_p=self.drop"


@pytest.mark.parametrize(
    "share",
    [SHARE, "dropout_p=0.1", "dropout_p=self.dropout.p", "attn_mask=None, dropout_p=self.drop", "None, self.drop"],
)
def test_attention_that_drops_what_it_is_told_in_evaluation_too(share: str) -> None:
    (answer,) = found(ATTENTION.replace(SHARE, share))
    assert [cause.line for cause in answer.causes] == [line_of(ATTENTION, "# here")]
    assert "dropout_p" in answer.text


def test_attention_that_is_first_evaluated_after_many_steps() -> None:
    once = ATTENTION.replace(
        "    net.eval()\n    with torch.no_grad():\n        total", "net.eval()\nwith torch.no_grad():\n    total"
    )
    assert len(found(once)) == 1


QUIET_ATTENTION = {
    "follows the mode": (SHARE, "dropout_p=self.drop if self.training else 0.0"),
    "multiplied by the mode": (SHARE, "dropout_p=self.drop * self.training"),
    "drops nothing": ("drop=0.2", "drop=0.0"),
    "no evaluation": ("    net.eval()\n", ""),
    "another model was set to evaluation": ("    net.eval()\n", "    other.eval()\n"),
    "another model is in evaluation, and this one in training": ("    net.eval()\n", "    other.eval(); net.train()\n"),
    "samples of a model": ("class Mixer", "# uncertainty by MC dropout\nclass Mixer"),
}


@pytest.mark.parametrize("case", QUIET_ATTENTION)
def test_attention_that_follows_the_mode_or_is_not_evaluated(case: str) -> None:
    old, new = QUIET_ATTENTION[case]
    assert old in ATTENTION
    assert found(ATTENTION.replace(old, new)) == []


def test_what_a_model_in_training_drops_while_another_is_in_evaluation() -> None:
    source = PROGRAM.replace("h = F.dropout(h, 0.5, training=True)", "h = F.dropout(h, 0.5)")
    source = source.replace("    net.eval()\n", "    net.train(); other.eval()\n").replace(
        "net = Net()", "net, other = Net(), Net()"
    )
    assert found(source) == []
