"""Checkpointed functions that backward runs again with other attributes, or in another mode, than the forward pass."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

HEAD = """\
from functools import partial
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin, self.drop, self.norm = nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3, track_running_stats=False)
        self.t, self.calls, self.width, self.aux, self.log, self.sums = 2.0, 0, 0, [], [], 0.0
"""
TAIL = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(2))
    def forward(self, x):
        for layer in self.layers:
            x = CALL  # checkpoint
        return x
    def anneal(self):
        for layer in self.layers:
            layer.t *= 0.9  # anneal
    @torch.no_grad()
    def look(self, x):
        self.eval()  # eval
        return self(x)
net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(3):
    net.train()
    loss = net(torch.randn(4, 3, requires_grad=True)).pow(2).mean()
    BEFORE
    opt.zero_grad()
    loss.backward()  # backward
    opt.step()
    AFTER
"""
CALLS = {
    "not-reentrant": "checkpoint(layer, x, use_reentrant=False)",
    "reentrant": "checkpoint(layer, x, use_reentrant=True)",
    "lambda": "checkpoint(lambda x, layer=layer: layer(x), x, use_reentrant=False)",
    "method": "checkpoint(layer.forward, x, use_reentrant=False)",
    "partial": "checkpoint(partial(layer), x, use_reentrant=False)",
}
PLAIN = "layer(x)"
CODES = ("checkpoint-runs-otherwise", "checkpoint-updates-twice", "refused-by-autograd", "graph-used-twice")


def program(forward: str, call: str = CALLS["not-reentrant"], before: str = "", after: str = "") -> str:
    body = "    def forward(self, x):\n" + "".join(f"        {line}\n" for line in forward.split("\n"))
    tail = TAIL.replace("CALL", call).replace("BEFORE", before or "pass").replace("AFTER", after or "pass")
    return HEAD + body + tail


def answers(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code in CODES]


def named(source: str) -> list[tuple[str, list[int]]]:
    return [(one.code, [cause.line for cause in one.causes]) for one in answers(source)]


OWN = {
    "number": "h = (self.lin(x).tanh() / self.t).exp()\nself.t = max(0.1, self.t * 0.5)  # change\nreturn h.sin()",
    "by-name": "t = self.t\nself.t *= 0.5  # change\nh = self.lin(x).tanh() / t\nreturn h.exp()",
    "last": "h = (self.lin(x).tanh() / self.t).exp()\nself.t = self.t * 0.5  # change\nreturn h",
    "choice": "n = 2.0 if self.calls % 2 else 1.0\nself.calls += 1  # change\nreturn (self.lin(x).tanh() * n).exp()",
    "chosen": "if self.calls % 2 == 0:\n    n = 2.0\nelse:\n    n = 1.0\nself.calls += 1  # change\n"
    "return (self.lin(x) * n).exp()",
    "branch": "self.calls += 1  # change\nh = self.lin(x)\nif self.calls % 2 == 0:\n    h = h * 2\nreturn h.exp()",
}


@pytest.mark.parametrize("forward", OWN.values(), ids=OWN)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_a_function_changes_and_computes_with_is_named(forward: str, call: str) -> None:
    source = program(forward, call)
    changed, checkpointed = line_of(source, "# change"), line_of(source, "# checkpoint")
    assert named(source) == [("checkpoint-runs-otherwise", [changed, checkpointed])]
    assert named(program(forward, PLAIN)) == []


SHARED = """
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
class Turns:
    def __init__(self):
        self.turn = 0
    def shift(self):
        n = 1 if self.turn % 2 else 0
        self.turn += 1  # change
        return torch.full((3,), float(n))
class Block(nn.Module):
    def __init__(self, turns):
        super().__init__()
        self.lin, self.turns = nn.Linear(3, 3), turns
    def forward(self, x):
        return (self.lin(x).tanh() + self.turns.shift()).exp()
class Given(nn.Module):
    def __init__(self, turns):
        super().__init__()
        self.lin = nn.Linear(3, 3)
    def forward(self, x, turns):
        return (self.lin(x).tanh() + turns.shift()).exp()
turns = Turns()
first, second, third = (nn.ModuleList(KIND(turns) for _ in range(3)))
x = torch.rand(4, 3, requires_grad=True)
turns.turn = 0
for block in (first, second, third):
    x = CALL  # checkpoint
x.sum().backward()
"""


@pytest.mark.parametrize(("kind", "given"), [("Block", "x"), ("Given", "x, turns")])
def test_a_counter_that_blocks_share_decides_otherwise(kind: str, given: str) -> None:
    source = SHARED.replace("KIND", kind).replace("CALL", f"checkpoint(block, {given}, use_reentrant=False)")
    lines = [line_of(source, "# change"), line_of(source, "# checkpoint")]
    assert named(source) == [("checkpoint-runs-otherwise", lines)]
    assert named(SHARED.replace("KIND", kind).replace("CALL", f"block({given})")) == []
    assert named(source.replace("self.turn % 2", "self.turn > 9")) == []


HEALTHY = {
    "counted-only": "self.calls += 1\nreturn (self.lin(x) / self.t).exp()",
    "printed": "self.calls += 1\nh = self.lin(x).exp()\nif self.calls > 99:\n    print(h.std(), self.calls)\nreturn h",
    "tag": "tag = 'odd' if self.calls % 2 else 'even'\nself.calls += 1\nprint(tag)\nreturn self.lin(x).exp()",
    "first": "n = 2.0 if self.calls == 0 else self.t\nself.calls += 1\nreturn (self.lin(x) * n).exp()",
    "late": "n = 3.0 if self.calls > 99 else 2.0\nself.calls += 1\nreturn (self.lin(x) * n).exp()",
    "set-first": "self.width = x.shape[-1]\nreturn (self.lin(x) / self.width).exp()",
    "the-largest": "self.width = max(self.width, x.shape[-1])\nreturn (self.lin(x) / self.width).exp()",
    "once": "if not self.calls:\n    self.t, self.calls = 3.0, 1\nreturn (self.lin(x) / self.t).exp()",
    "begun-anew": "self.calls = 0\nfor _ in range(2):\n    self.calls += 1\n    x = self.lin(x) / self.calls\nreturn x",
    "log": "h = self.lin(x).exp()\nself.log.append(h.mean().item())\nreturn h.sin()",
    "last-value": "h = self.lin(x).exp()\nself.sums = h.mean()\nreturn h.sin()",
    "dropout": "return self.lin(self.drop(x)).exp()",
}


@pytest.mark.parametrize("forward", HEALTHY.values(), ids=HEALTHY)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_state_that_makes_no_difference_is_left_alone(forward: str, call: str) -> None:
    assert named(program(forward, call, after="net.anneal()")) == []


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_others_change_before_backward_is_named(call: str) -> None:
    once = program("return (self.lin(x) / self.t).exp()", call, before="net.anneal()  # call")
    changed = line_of(once, "# anneal")
    assert named(once) == [("checkpoint-runs-otherwise", [changed, line_of(once, "# call")])]
    twice = once.replace("opt.step()", "opt.step(); net.anneal()")
    assert named(twice) == [("checkpoint-runs-otherwise", [changed])]
    assert named(program("return (self.lin(x) + 1).exp()", call, before="net.anneal()")) == []


DECIDED = {"dropout": "return self.drop(self.lin(x).tanh()).exp()", "norm": "return self.norm(self.lin(x)).exp()"}


def test_a_mode_that_is_changed_before_backward_is_named_where_checkpoint_refuses() -> None:
    source = program(DECIDED["dropout"], before="net.look(torch.ones(2, 3))")
    (answer,) = answers(source)
    assert (answer.code, [cause.line for cause in answer.causes]) == (
        "refused-by-autograd",
        [line_of(source, "# eval")],
    )
    assert "was called between the forward pass and this one" in answer.text


def test_a_mode_that_is_changed_before_backward_is_named_where_nothing_fails() -> None:
    source = program(DECIDED["dropout"], CALLS["reentrant"], before="net.look(torch.ones(2, 3))")
    assert named(source) == [("checkpoint-runs-otherwise", [line_of(source, "# eval")])]


@pytest.mark.parametrize(
    "rest",
    [
        {"after": "net.look(torch.ones(2, 3))"},
        {"before": "net.look(torch.ones(2, 3)); net.train()"},
        {"before": "other = Net().eval(); other(torch.ones(2, 3))"},
    ],
    ids=["after", "set-back", "another"],
)
@pytest.mark.parametrize("forward", DECIDED.values(), ids=DECIDED)
@pytest.mark.parametrize("call", [CALLS["not-reentrant"], CALLS["reentrant"]])
def test_other_calls_of_eval_are_left_alone(forward: str, rest: dict[str, str], call: str) -> None:
    if "norm" not in forward:
        assert named(program(forward, call, **rest)) == []
    else:
        assert "checkpoint-runs-otherwise" not in dict(named(program(forward, call, **rest)))


def test_a_mode_that_decides_nothing_is_left_alone() -> None:
    for call in (CALLS["not-reentrant"], CALLS["reentrant"]):
        assert named(program("return self.lin(x).exp()", call, before="net.look(torch.ones(2, 3))")) == []


def test_a_counter_by_which_checkpoint_refuses_is_named() -> None:
    forward = "self.calls += 1  # change\nh = self.lin(x).exp()\nreturn h if self.calls % 2 == 0 else h.exp().sin()"
    source = program(forward)
    assert [one.causes[0].line for one in answers(source)] == [line_of(source, "# change")]
    assert "calls of Layer" in answers(source)[0].text


KEPT = {
    "list": "h = self.lin(x).tanh()\nself.aux.append(h.mean())  # change\nreturn h.exp()",
    "sum": "h = self.lin(x).tanh()\nself.sums = self.sums + h.mean()  # change\nreturn h.exp()",
}
TAKE = "loss = loss + sum(sum(layer.aux) + layer.sums for layer in net.layers); EMPTY"
EMPTY = "[(layer.aux.clear(), setattr(layer, 'sums', 0.0)) for layer in net.layers]"


@pytest.mark.parametrize("forward", KEPT.values(), ids=KEPT)
@pytest.mark.parametrize(("call", "code"), [("not-reentrant", "graph-used-twice"), ("reentrant", CODES[1])])
def test_what_is_added_again_and_still_there_is_named(forward: str, call: str, code: str) -> None:
    source = program(forward, CALLS[call], before=TAKE.replace("EMPTY", EMPTY))
    changed, checkpointed = line_of(source, "# change"), line_of(source, "# checkpoint")
    assert named(source) == [(code, [changed, checkpointed])]


@pytest.mark.parametrize("forward", KEPT.values(), ids=KEPT)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_is_emptied_before_the_next_forward_pass_is_left_alone(forward: str, call: str) -> None:
    source = program(forward, call, before=TAKE.replace("EMPTY", "pass"), after=EMPTY)
    assert named(source) == []
