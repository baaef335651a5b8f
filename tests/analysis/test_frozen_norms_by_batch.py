"""Frozen batch norms whose momentum is zero: they learn nothing, and go by each batch while they are in training."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.norm, self.head = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)

    def forward(self, x):
        return self.head(self.norm(self.layer(x)))

net = Net()
net.norm.running_mean.fill_(1.0)
{freeze}
optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
for epoch in range(3):
    net.train()
    {after}
    for batch in torch.randn(2, 5, 3):
        optimizer.zero_grad()
        net(batch).pow(2).sum().backward()
        optimizer.step()
    {evaluate}
"""
FREEZE = "net.norm.momentum = 0.0\nnet.norm.requires_grad_(False)"
EVALUATE = "net.eval(); net(torch.ones(2, 3))"


def said(freeze: str = FREEZE, after: str = "pass", evaluate: str = EVALUATE) -> list[tuple[str, str, list[int]]]:
    source = PROGRAM.format(freeze=freeze, after=after, evaluate=evaluate)
    answers = build(recorded(source)).answers
    return [
        (one.code, one.text, [cause.line for cause in one.causes])
        for one in answers
        if one.code.startswith("frozen-norm")
    ]


@pytest.mark.parametrize(
    "setting",
    [
        "net.norm.momentum = 0.0",
        "for m in net.modules():\n    if isinstance(m, nn.BatchNorm1d): m.momentum = 0",
        "setattr(net.norm, 'momentum', 0)",
        "net.norm = nn.BatchNorm1d(4, momentum=0.0)",
    ],
)
def test_the_line_of_the_momentum_and_the_call_of_train_are_named(setting: str) -> None:
    source = f"{setting}\nnet.norm.requires_grad_(False)"
    program = PROGRAM.format(freeze=source, after="pass", evaluate=EVALUATE)
    ((code, text, causes),) = said(source)
    assert code == "frozen-norm-by-batch"
    assert "(net.norm.weight) keep their running statistics, yet training normalises by those of each batch" in text
    assert "learn" not in text
    momentum = next(n for n, line in enumerate(program.split("\n"), 1) if "momentum" in line)
    assert causes == [momentum, line_of(program, "net.train()")]


def test_a_norm_with_a_momentum_learns() -> None:
    ((code, _, _),) = said("net.norm.requires_grad_(False)")
    assert code == "frozen-norm-learns"


def test_one_that_learns_at_times_is_said_to_learn() -> None:
    ((code, _, _),) = said(after="net.norm.momentum = 0.1 * (epoch > 0)")
    assert code == "frozen-norm-learns"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"after": "net.norm.eval()"}, id="set to evaluation"),
        pytest.param({"freeze": "net.norm.momentum = 0.0"}, id="trained, without statistics"),
        pytest.param({"evaluate": "net(torch.randn(2, 3))"}, id="never evaluated otherwise"),
        pytest.param({"after": "net.norm.train()"}, id="meant to be in training mode"),
    ],
)
def test_silent(changes: dict[str, str]) -> None:
    assert said(**changes) == []


LEARNED_BEFORE = """\
for batch in torch.randn(2, 5, 3):
    net(batch).sum().backward()
def freeze_norm():
    net.norm.momentum = 0.0
    net.norm.requires_grad_(False)
freeze_norm()
"""
COPIED = LEARNED_BEFORE.replace("def freeze", "import copy\nnet = copy.deepcopy(net)\ndef freeze")
LOADED = """\
net.load_state_dict({name: torch.ones_like(one) for name, one in net.state_dict().items()})
net.norm.momentum = 0.0
net.norm.requires_grad_(False)
"""


@pytest.mark.parametrize(
    "freeze", [LEARNED_BEFORE, LOADED, COPIED, LEARNED_BEFORE.replace("    net.norm.requires_grad_(False)\n", "")]
)
def test_one_that_has_statistics_needs_no_evaluation(freeze: str) -> None:
    program = PROGRAM.format(freeze=freeze, after="pass", evaluate="pass")
    ((code, _, causes),) = said(freeze, evaluate="pass")
    assert code == "frozen-norm-by-batch"
    assert causes == [line_of(program, "momentum = 0.0"), line_of(program, "net.train()")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("momentum = 0.0", "eval()", id="set to evaluation, and back"),
        pytest.param("    net(batch).sum()", "    net.eval()(batch).sum()", id="has learned nothing"),
        pytest.param(
            "    net.norm.requires_grad_(False)\n", "    net.norm.train()\n", id="meant to be in training mode"
        ),
    ],
)
def test_silent_about_one_without(old: str, new: str) -> None:
    assert old in LEARNED_BEFORE
    codes = [code for code, *_ in said(LEARNED_BEFORE.replace(old, new), after="net.norm.train()", evaluate="pass")]
    assert "frozen-norm-by-batch" not in codes


@pytest.mark.parametrize("name", ["second_pass", "make_block", "fixup", "add_prefix"])
def test_silent_where_the_momentum_alone_is_set_and_nothing_says_that_it_freezes(name: str) -> None:
    freeze = LEARNED_BEFORE.replace("freeze_norm", name).replace("    net.norm.requires_grad_(False)\n", "")
    assert said(freeze, evaluate="pass") == []


def test_silent_where_the_momentum_is_put_back_for_every_other_run() -> None:
    freeze = LEARNED_BEFORE.replace("    net.norm.requires_grad_(False)\n", "")
    assert said(freeze, after="freeze_norm(); net(torch.randn(5, 3)); net.norm.momentum = 0.1") == []
