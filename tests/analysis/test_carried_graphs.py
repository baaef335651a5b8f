"""Graphs of earlier runs into which a pass comes: by what a loop carries, and by what was computed before it."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

STATE = """
import torch
rnn, head = torch.nn.LSTM(2, 3), torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD([*rnn.parameters(), *head.parameters()], lr=0.1)
state = None
for step in range(2):
    out, state = rnn(torch.ones(4, 1, 2), state)
    optimizer.zero_grad()
    head(out).sum().backward(retain_graph=True)
    optimizer.step()
"""

TARGETS = """
import torch
net = torch.nn.Linear(2, 2)
image = torch.zeros(1, 2, requires_grad=True)
targets = [torch.tanh(net(torch.ones(1, 2) * k)) for k in range(2)]
for step in range(2):
    loss = sum((net(image) - t).pow(2).sum() for t in targets)
    loss.backward()
"""


def found(source: str, code: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == code]


def test_the_state_that_a_loop_carries_is_the_cause_before_the_step_that_wrote() -> None:
    (answer,) = found(STATE, "inplace-error")
    assert answer.causes[0].line == line_of(STATE, "out, state")
    assert "into the graph of its own earlier run" in answer.text


def test_a_step_between_forward_and_backward_of_one_run_carries_nothing() -> None:
    early = STATE.replace("    head(out).sum().backward(retain_graph=True)\n    optimizer.step()\n", "")
    early += "    loss = head(out).pow(2).sum()\n    loss.backward(retain_graph=True)\n    optimizer.step()\n"
    early = early.replace("rnn(torch.ones(4, 1, 2), state)", "rnn(torch.ones(4, 1, 2))") + "    loss.backward()\n"
    (answer,) = found(early, "inplace-error")
    assert "earlier run" not in answer.text
    assert line_of(early, "optimizer.step()") in [cause.line for cause in answer.causes]


def test_a_list_that_is_computed_once_was_made_where_it_is_written_out() -> None:
    (answer,) = found(TARGETS, "graph-used-twice")
    assert [cause.line for cause in answer.causes] == [line_of(TARGETS, "targets = ")]
    assert f"line {line_of(TARGETS, 'loss = sum')}" not in answer.text


RECORD = """
import torch
from typing import NamedTuple
class State(NamedTuple):
    fast: torch.Tensor
    slow: torch.Tensor
layer = torch.nn.Linear(2, 2)
def advance(x, state):
    fast = layer(x) + state.fast
    slow = torch.tanh(fast) + state.slow
    return State(fast, slow)
state = State(torch.zeros(2), torch.zeros(2))
for step in range(2):
    state = advance(torch.ones(2), state)
    (state.fast * state.slow).sum().backward()
"""


def test_a_state_of_several_fields_is_carried_where_the_loop_stores_it() -> None:
    (answer,) = found(RECORD, "graph-used-twice")
    assert {cause.line for cause in answer.causes} == {line_of(RECORD, "state = advance")}


STREAM = """\
import torch
cell, out = torch.nn.GRUCell(2, 3), torch.nn.Linear(3, 2)
class Monitor:
    def __init__(self):
        self.state, self.expected = torch.zeros(1, 3), torch.zeros(1, 2)
    def push(self, x):
        score = (x - self.expected).pow(2).mean().item()
        self.state = cell(x, self.state)
        self.expected = out(self.state)
        return score
monitor = Monitor()
for step in range(50):
    monitor.push(torch.ones(1, 2))
"""


def carried_by(program: str) -> list[int]:
    answers = build(recorded(program)).answers
    return [cause.line for one in answers if one.code == "graph-carried-along" for cause in one.causes]


def test_the_line_that_carries_the_state_of_a_stream() -> None:
    assert carried_by(STREAM) == [8]
    trained = "import torch\nw = torch.ones(2, requires_grad=True)\nfor step in range(4): (w * step).sum().backward()\n"
    assert carried_by(STREAM.replace("import torch\n", trained)) == [10]
    in_two = STREAM.replace(
        "self.state = cell(x, self.state)", "new = cell(x, self.state)\n        self.state = new * 0.9"
    )
    assert carried_by(in_two) == [9]
    assert carried_by(STREAM.replace(".mean().item()", ".mean().detach().numpy()")) == [8]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    def push", "    @torch.no_grad()\n    def push"),
        ("    def push", "    @torch.inference_mode()\n    def push"),
        ("cell(x, self.state)", "cell(x, self.state).detach()"),
        ("cell(x, self.state)", "cell(x, self.state.detach())"),
        ("    monitor.push(torch.ones(1, 2))", "    monitor.push(torch.ones(1, 2))\nmonitor.expected.sum().backward()"),
        (".mean().item()", ".mean()"),  # a sequence that is unrolled, and read when it is over
        (".mean().item()", ".mean()\n        x.sum().item()"),
        ("range(50)", "range(20)"),
        ("in range(50):\n", "in range(50):\n    if step % 10 == 0: monitor.state = torch.zeros(1, 3)\n"),
    ],
)
def test_a_state_without_a_graph_or_that_is_trained_through_is_no_finding(old: str, new: str) -> None:
    assert old in STREAM
    assert carried_by(STREAM.replace(old, new)) == []


def test_a_deep_model_that_is_looked_at_layer_by_layer_is_no_stream() -> None:
    program = """\
import torch
x = torch.ones(1, 3)
for depth in range(40):
    x = torch.tanh(torch.nn.Linear(3, 3)(x))
    print(x.std().item())
"""
    assert carried_by(program) == []
    shared = program.replace("x = torch.ones", "layer = torch.nn.Linear(3, 3)\nx = torch.ones")
    assert carried_by(shared.replace("torch.nn.Linear(3, 3)(x)", "layer(x)")) == [5]


WRITTEN = """
import torch
net = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
class Replay:
    def __init__(self):
        self.rows, self.priority = torch.randn(16, 3), torch.ones(16)
    def draw(self):
        index = torch.multinomial(self.priority ** 0.5, 4)
        return index, self.rows[index]
    def refresh(self, index, error):
        self.priority[index] = error.abs() + 0.1  # written
replay = Replay()
for step in range(12):
    index, rows = replay.draw()
    error = net(rows).squeeze(1) - 1
    optimizer.zero_grad()
    error.pow(2).mean().backward()
    optimizer.step()
    replay.refresh(index, error)
"""
SCORES = """
import torch
net = torch.nn.Sequential(torch.nn.Linear(3, 99), torch.nn.ReLU(), torch.nn.Linear(99, 1))
scores = torch.empty(24)
for i in range(24):
    scores[i] = net(torch.ones(9, 3)).mean()  # written
"""


@pytest.mark.parametrize("write", ["self.priority[index] = new", "self.priority.index_copy_(0, index, new)"])
def test_what_is_written_into_a_tensor_carries_its_graph_and_the_writing_line_is_the_cause(write: str) -> None:
    source = WRITTEN.replace("self.priority[index] = error.abs() + 0.1", f"new = error.abs() + 0.1; {write}")
    (answer,) = found(source, "graph-carried-along")
    assert line_of(source, "# written") in [cause.line for cause in answer.causes]
    others = [one for one in build(recorded(source)).answers if one.severity != "note" and one is not answer]
    assert {cause.line for one in others for cause in one.causes} <= {cause.line for cause in answer.causes}


def test_scores_without_a_pass_are_kept_by_the_line_that_writes_them() -> None:
    (answer,) = found(SCORES, "memory-kept-by-graph")
    assert [cause.line for cause in answer.causes] == [line_of(SCORES, "# written")]


@pytest.mark.parametrize(
    "source",
    [
        WRITTEN.replace("error.abs()", "error.detach().abs()"),
        SCORES.replace(".mean()", ".mean().item()"),
        SCORES.replace("scores = torch.empty(24)\n", "").replace("scores[i]", "scores = torch.empty(3); scores[2]"),
    ],
)
def test_what_is_written_without_a_graph_or_into_a_new_tensor_carries_none(source: str) -> None:
    codes = ("graph-carried-along", "memory-kept-by-graph")
    assert [one for one in build(recorded(source)).answers if one.code in codes] == []


TRAINED_BEFORE = """
import torch
class Scorer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.out = torch.nn.GRUCell(2, 3), torch.nn.Linear(3, 2)
    def forward(self, x, h):
        h = self.cell(x, h)
        return self.out(h), h
class Detector:
    def __init__(self, model):
        self.model, self.memory, self.expected = model, torch.zeros(1, 3), torch.zeros(1, 2)
    def push(self, x):
        error = (x - self.expected).pow(2).mean().item()
        self.expected, self.memory = self.model(x, self.memory)  # carries
        return error
model = Scorer()
for _ in range(3):
    h = torch.zeros(1, 3)
    for _ in range(4):
        y, h = model(torch.ones(1, 2), h)
    y.sum().backward()
detector = Detector(model.eval())
for _ in range(50):
    detector.push(torch.ones(1, 2))
"""


def test_the_state_of_a_model_that_was_trained_before_is_carried_by_the_object_that_takes_it() -> None:
    codes = ("graph-carried-along", "memory-kept-by-graph")
    answers = [one for one in build(recorded(TRAINED_BEFORE)).answers if one.code in codes]
    lines = {cause.line for one in answers for cause in one.causes}
    assert lines == {line_of(TRAINED_BEFORE, "# carries")}
    detached = TRAINED_BEFORE.replace("self.model(x, self.memory)", "self.model(x, self.memory.detach())")
    assert [one for one in build(recorded(detached)).answers if one.code in codes] == []


PRODUCTS = """\
import torch
layer, x = torch.nn.Linear(2, 1), torch.ones(3, 2)
class Solver:
    def product(self, vector):
        loss = layer(x).tanh().pow(2).sum()
        (first,) = torch.autograd.grad(loss, [layer.weight], create_graph=True)
        return torch.autograd.grad((first * vector).sum(), [layer.weight], create_graph=True)[0]
    def solve(self, target):
        estimate = target.clone()
        for step in range(6):
            estimate = target + 0.9 * estimate - self.product(estimate)
        return estimate
solution = Solver().solve(torch.ones(1, 2))
"""

SAMPLES = """\
import torch
energy = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
def sample():
    x = torch.ones(4, 2, requires_grad=True)
    for step in range(6):
        (slope,) = torch.autograd.grad(energy(x).sum(), x, create_graph=True)
        x = x - 0.1 * slope
    return x
energy(sample().detach()).mean().backward()
"""

DERIVATIVES = """\
import torch
x = torch.linspace(0, 1, 5, requires_grad=True)
u, series = x.pow(9), torch.zeros(5)
for order in range(6):
    first = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
    u = 0.5 * torch.autograd.grad(first.sum(), x, create_graph=True)[0]
    series = series + u
"""


def test_the_product_and_the_update_of_a_recursion_that_carries_its_graph() -> None:
    assert carried_by(PRODUCTS) == [7, 11]
    power = PRODUCTS.replace("target + 0.9 * estimate - self.product(estimate)", "self.product(estimate)\n")
    power = power.replace("self.product(estimate)\n", "self.product(estimate)\n            estimate = estimate * 0.5")
    assert carried_by(power) == [7, 12]
    assert carried_by(SAMPLES) == [6, 7]


@pytest.mark.parametrize(
    ("program", "old", "new"),
    [
        (PRODUCTS, "[layer.weight], create_graph=True)[0]", "[layer.weight])[0]"),
        (PRODUCTS, "self.product(estimate)", "self.product(estimate).detach()"),
        (PRODUCTS, "self.product(estimate)", "self.product(target)"),
        (PRODUCTS, "range(6)", "range(3)"),
        (PRODUCTS, "solution = Solver().solve(torch.ones(1, 2))", "Solver().solve(torch.ones(1, 2)).sum().backward()"),
        (SAMPLES, ".detach()", ""),
        (SAMPLES, ", create_graph=True", ""),
        (SAMPLES, "    return x", "    return x\nx = sample()\nsample().sum().backward()"),  # once is enough
        (DERIVATIVES, "", ""),
    ],
)
def test_a_recursion_without_a_graph_or_whose_graph_is_needed_is_none(program: str, old: str, new: str) -> None:
    assert old in program
    assert carried_by(program.replace(old, new)) == []


def test_no_grad_is_not_advised_where_passes_run_in_between() -> None:
    slope = "        x = torch.autograd.grad((x * w).sum(), w)[0]\n"
    with_pass = STREAM.replace("import torch\n", "import torch\nw = torch.ones(1, 2, requires_grad=True)\n")
    with_pass = with_pass.replace("        self.state = cell", f"{slope}        self.state = cell")
    for program, is_advised in ((STREAM, True), (with_pass, False)):
        (answer,) = found(program, "graph-carried-along")
        assert ("no_grad" in answer.text) is is_advised
        assert "detach() the state" in answer.text


AVERAGES = """
    import torch
    from torch import nn
    net = nn.Linear(2, 2)
    averages = {name: weight.clone() for name, weight in net.named_parameters()}
    for step in range(30):
        net(torch.ones(1, 2)).sum().backward()
        for name, weight in net.named_parameters():
            averages[name] = 0.9 * averages[name] + 0.1 * weight
"""


def test_averages_of_several_weights_are_told_together_with_all_of_their_passes():
    (answer,) = found(AVERAGES, "graph-carried-along")
    assert "averages['bias'] and averages['weight'] carry their graphs" in answer.text
    assert "over 30 passes, each" in answer.text


METER = """
import torch
import torch.nn.functional as F
net = torch.nn.Linear(4, 3)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
class Meter:
    def __init__(self): self.sum, self.count = 0.0, 0
    def update(self, value, count=1):
        self.sum += value * count
        self.count += count
class Log:
    def __init__(self): self.meters = {name: Meter() for name in ("loss", "entropy")}
    def log(self, **values):
        for name, value in values.items(): self.meters[name].update(value)
    def one(self, name, value): self.meters[name].update(value, 8)
    def several(self, values):
        for name in values: self.meters[name].update(values[name])
class Distance(torch.nn.Module):
    def forward(self, one, other): return (one - other).abs().mean()
def entropy(logits):
    logs = F.log_softmax(logits, -1)
    return -(logs.exp() * logs).sum(-1).mean()
losses, meter, log, distance = Meter(), Meter(), Log(), Distance()
def step(x, y):
    logits = net(x)
    loss = F.cross_entropy(logits, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.update(loss.item(), len(y))
    losses.update((logits.argmax(1) == y).float().mean())
    HANDS
for _ in range(12): step(torch.randn(8, 4), torch.randint(0, 3, (8,)))
"""


@pytest.mark.parametrize(
    "hands",
    [
        "meter.update(entropy(logits), len(y))",
        "meter.update(value=entropy(logits), count=len(y))",
        "meter.update(loss)",
        "meter.update(loss / 2)",
        "meter.update(distance(logits, 0 * logits))",
        "h = entropy(logits); meter.update(h)",
        "log.log(loss=loss.item(), entropy=entropy(logits))",
        "log.one('entropy', entropy(logits))",
    ],
)
def test_who_hands_a_meter_a_value_with_its_graph_has_the_line_to_change(hands: str) -> None:
    (answer,) = found(METER.replace("HANDS", hands), "graph-carried-along")
    line = line_of(METER, "HANDS")
    assert [cause.line for cause in answer.causes] == [line, line_of(METER, "self.sum += value")]
    assert f"line {line} hands it" in answer.text
    assert not found(METER.replace("HANDS", "meter.update(entropy(logits).item())"), "graph-carried-along")


MEMBRANE = """
import torch
net, head = torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)
class Neuron:
    def __init__(self): self.potential = torch.zeros(3)
    def fire(self, current):
        self.potential = 0.9 * self.potential + current
        return self.potential
neuron = Neuron()
for step in range(12):
    head(neuron.fire(net(torch.ones(1, 2)))).sum().backward(retain_graph=True)
"""


def test_what_feeds_a_state_that_passes_walk_is_no_line_to_change() -> None:
    (answer,) = found(MEMBRANE, "graph-carried-along")
    assert [cause.line for cause in answer.causes] == [line_of(MEMBRANE, "self.potential = 0.9")]


KEPT_BUILD = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.points, self.lin, self.kept = nn.Parameter(torch.randn(5, 3)), nn.Linear(4, 3), {}
        INIT
    def build(self):
        near = torch.relu(self.points @ self.points.t())
        return torch.softmax(near, 1)
    def forward(self, x):
        FIRST
        return ADJACENCY @ self.lin(x)
net = Net()
optimizer = torch.optim.SGD(net.parameters(), 0.1)
for epoch in range(3):
    optimizer.zero_grad()
    net(torch.randn(5, 4)).pow(2).mean().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("init", "first", "adjacency"),
    [
        pytest.param("self.adj = self.build()", "pass", "self.adj", id="an attribute"),
        pytest.param("self._adj = self.build()", "adj = self._adj", "adj", id="an attribute that a name takes"),
        pytest.param("self.kept['a'] = self.build()", "pass", "self.kept['a']", id="an item"),
        pytest.param(
            "pass", "if not self.kept: self.kept['a'] = self.build()", "self.kept['a']", id="when first asked"
        ),
    ],
)
def test_the_statement_that_keeps_what_a_method_builds_is_the_cause(init: str, first: str, adjacency: str) -> None:
    source = KEPT_BUILD.replace("INIT", init).replace("FIRST", first).replace("ADJACENCY", adjacency)
    (answer,) = found(source, "graph-used-twice")
    line = line_of(source, "= self.build()")
    assert [cause.line for cause in answer.causes] == [line]
    assert f"saved at line {line})" in answer.text


MEMORY = """
import torch
from torch import nn
class Memory(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("state", torch.zeros(6, 3))
    def write(self, ids, values):
        WRITES
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.memory, self.cell = Memory(), nn.GRUCell(4, 3)
    def forward(self, ids, x):
        new = self.cell(x, self.memory.state[ids])
        self.memory.write(ids, new)
        return new
net = Net()
optimizer = torch.optim.SGD(net.parameters(), 0.1)
for step in range(4):
    optimizer.zero_grad()
    net(torch.randperm(6)[:4], torch.randn(4, 4)).pow(2).mean().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    "writes",
    [
        "state = self.state.clone()\n        state[ids] = values\n        self.state = state",
        "self.state[ids] = values",
        "self.state = self.state.index_copy(0, ids, values)",
        "self.state.index_copy_(0, ids, values)",
    ],
)
def test_who_hands_a_memory_a_state_with_its_graph_has_the_line_to_change(writes: str) -> None:
    source = MEMORY.replace("WRITES", writes)
    (answer,) = found(source, "graph-used-twice")
    lines = [line_of(source, "self.memory.write"), line_of(source, writes.split("\n")[-1])]
    assert [cause.line for cause in answer.causes] == lines
    assert f"handed over at line {lines[0]}" in answer.text
    assert not found(source.replace("write(ids, new)", "write(ids, new.detach())"), "graph-used-twice")
