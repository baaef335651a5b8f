"""Reentrant checkpointing keeps gradients out where no argument requires grad: the call is named, not what it ran."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
net, head = nn.Linear(3, 3), nn.Linear(3, 1)
x = torch.ones(2, 3){}
h = checkpoint(lambda x: torch.relu(net(x)), x, use_reentrant={})
head(h).sum().backward()
"""


def test_the_call_is_the_cause_where_no_argument_requires_grad() -> None:
    source = PROGRAM.format("", True)
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]
    assert answer.subject == "net.weight and net.bias"
    assert [cause.line for cause in answer.causes] == [line_of(source, "h = checkpoint")]
    assert "use_reentrant=True" in answer.text


@pytest.mark.parametrize(("grad", "reentrant"), [(".requires_grad_()", True), ("", False)])
def test_an_argument_that_requires_grad_or_the_other_kind_lets_them_through(grad: str, reentrant: bool) -> None:
    assert not [one for one in build(recorded(PROGRAM.format(grad, reentrant))).answers if one.code == "leaf-unreached"]


def test_where_another_line_says_that_it_is_reentrant_that_is_named_first() -> None:
    source = PROGRAM.format("", True).replace("h = checkpoint(", "from functools import partial\nh = run(")
    source = source.replace(", use_reentrant=True", "")
    source = source.replace("h = run", "run = partial(checkpoint, use_reentrant=True)  # told\nh = run")
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]
    assert [cause.line for cause in answer.causes] == [line_of(source, "# told"), line_of(source, "h = run")]


BESIDE = """import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.body = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        gates = self.gate(x).softmax(-1)
        self.balance = gates.mean(0).pow(2).sum()
        return gates * self.body(x)

inner, layer = nn.Linear(3, 4), Gated()
hidden = inner(torch.rand(5, 3))
out = checkpoint(layer, hidden, use_reentrant=True)  # checkpoints
loss = out.pow(2).mean() + 0.1 * layer.balance  # adds
loss.backward()
"""
ELSEWHERE = BESIDE.replace(
    "out = checkpoint(layer, hidden, use_reentrant=True)",
    'options = {"use_reentrant": True}  # tells\nout = checkpoint(layer, hidden, **options)',
)
RETURNED = BESIDE.replace("return gates * self.body(x)", "return gates * self.body(x), self.balance.clone()").replace(
    "out = check", "out, layer.given = check"
)


def told(source: str) -> list[tuple[str, list[int]]]:
    answers = build(recorded(source)).answers
    return [(answer.code, [cause.line for cause in answer.causes]) for answer in answers if answer.severity != "note"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0.1 * layer.balance", "0.1 * layer.balance"),
        ("+ 0.1 * layer.balance", "+ 0.1 * torch.stack([layer.balance]).mean()"),
        ("self.balance = gates.mean(0).pow(2).sum()", "self.balance = gates.mean()"),
        ("0.1 * layer.balance", "layer.balance"),
        ("loss = out.pow(2).mean() + 0.1 * layer.balance", "loss = out.pow(2).mean(); loss += layer.balance"),
    ],
)
def test_a_term_that_the_function_kept_beside_what_it_returned_is_named(old: str, new: str) -> None:
    source = BESIDE.replace(old, new)
    assert told(source) == [("term-without-gradient", [line_of(source, "# checkpoints")])]


def test_where_another_line_says_that_it_is_reentrant_that_comes_first() -> None:
    lines = [line_of(ELSEWHERE, "# tells"), line_of(ELSEWHERE, "# checkpoints")]
    assert told(ELSEWHERE) == [("term-without-gradient", lines)]


def test_a_loss_of_nothing_else_fails_for_that() -> None:
    source = BESIDE.replace("out.pow(2).mean() + 0.1 * layer.balance", "0.1 * layer.balance")
    assert told(source) == [("backward-no-grad", [line_of(source, "# checkpoints")])]


def test_a_leaf_that_only_the_term_uses_is_told_why() -> None:
    source = BESIDE.replace("return gates * self.body(x)", "return self.body(x)").replace(
        "self.gate(x)", "self.gate(x.detach())"
    )
    codes = dict(told(source))
    assert codes["leaf-unreached"] == [line_of(source, "# checkpoints")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("use_reentrant=True", "use_reentrant=False"),
        ("checkpoint(layer, hidden, use_reentrant=True)", "layer(hidden)"),
        (".pow(2).sum()", ".pow(2).sum().detach()"),
        ("        self.balance", "        with torch.no_grad(): self.balance"),
        ("+ 0.1 * layer.balance", "* (1 + layer.balance)"),
        ("+ 0.1 * layer.balance", "+ 0.1 * layer.balance.detach()"),
        ("out.pow(2).mean() + 0.1 * layer.balance", "out.pow(2).mean(); print(layer.balance.item())"),
    ],
)
def test_what_has_a_graph_and_what_is_meant_to_have_none_are_not(old: str, new: str) -> None:
    assert told(BESIDE.replace(old, new)) == []


@pytest.mark.parametrize(
    "adds",
    [
        "loss = out.pow(2).mean() + layer.given",
        "loss = out.pow(2).mean(); loss += layer.given",
        "loss = out.pow(2).mean() + torch.stack([layer.given]).mean()",
        "loss = out.pow(2).mean() + sum([layer.given])",
    ],
)
def test_a_term_that_it_returned_has_a_graph(adds: str) -> None:
    source = RETURNED.replace("loss = out.pow(2).mean() + 0.1 * layer.balance", adds)
    assert told(source) == []
