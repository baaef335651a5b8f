"""One tensor that a program takes for two: blamed at the line that gave the second name, and only there."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

CODES = ("one-tensor-two-names", "kept-again", "default-argument-written", "snapshot-shares-memory")
HEAD = """import copy
from collections import deque
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def train():
    optimizer.zero_grad()
    model(torch.ones(2, 3)).pow(2).sum().backward()
    optimizer.step()
"""
SOFT = """
    def soft_update(self):
        with torch.no_grad():
            for p, t in zip(self.policy.parameters(), self.target.parameters()):
                t.mul_(0.9).add_(0.1 * p)
    def learn(self):
        self.policy(torch.ones(2, 3)).sum().backward()
        self.soft_update()
agent = Agent()
agent.learn()
"""


def found(source: str) -> list[Answer]:
    answers = build(recorded(HEAD + source)).answers
    return [answer for answer in answers if answer.code in CODES and answer.severity == "warning"]


AVERAGE = """
workers = [copy.deepcopy(model) for _ in range(3)]
models = dict(enumerate(workers))
@torch.no_grad()
def add(to, of):
    for p, q in zip(to.parameters(), of.parameters()):
        p.add_(q)
    return to
def average(models):
    every = list(models.values())
    result = every[0]  # second
    for i in range(1, len(every)):
        result = add(result, every[i])
    return result
server = average(models)
print([(p - q).abs().sum() for p, q in zip(server.parameters(), workers[0].parameters())])
"""

ONE = {
    "an average that begins with the first model": AVERAGE,
    "a target that is the policy": f"""
class Agent:
    def __init__(self):
        self.policy = nn.Linear(3, 1)
        self.target = self.policy  # second
{SOFT}""",
    "a target with the policy's weight": f"""
class Agent:
    def __init__(self):
        self.policy, self.target = nn.Linear(3, 1, bias=False), nn.Linear(3, 1, bias=False)
        self.target.weight = self.policy.weight  # second
{SOFT}""",
    "a target on the policy's data": """
policy, target = nn.Linear(3, 1), nn.Linear(3, 1)
for p, t in zip(policy.parameters(), target.parameters()):
    t.data = p.data  # second
optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
policy(torch.ones(2, 3)).sum().backward()
optimizer.step()
for p, t in zip(policy.parameters(), target.parameters()):
    t.data.copy_(0.1 * p.data + 0.9 * t.data)
""",
    "an average kept in a dict": """
shadow = {name: p.data for name, p in model.named_parameters()}  # second
for step in range(3):
    train()
    for name, p in model.named_parameters():
        shadow[name].mul_(0.9).add_(p.data, alpha=0.1)
""",
    "a noisy copy": """
for step in range(3):
    clean = torch.rand(4, 3)
    noisy = clean  # second
    noisy += torch.randn(4, 3)
    print((model(noisy) - clean).sum().item())
""",
    "a shallow copy of a model": """
best = copy.copy(model)  # second
train()
print((best.weight - model.weight).norm())
""",
    "the parameters in a list": """
backup = [p for p in model.parameters()]  # second
train()
with torch.no_grad():
    for p, b in zip(model.parameters(), backup):
        p.copy_(b)
""",
    "two keys of a batch": """
def collate(rows):
    tokens = torch.stack(rows)
    return {"inputs": tokens, "labels": tokens}  # second
batch = collate([torch.arange(4), torch.arange(4)])
batch["labels"][batch["inputs"] > 2] = -100
print(batch["inputs"].sum(), batch["labels"].sum())
""",
    "a buffer in a history": """
buffer, history = torch.empty(3), []
for step in range(3):
    buffer.copy_(torch.ones(3) * step)
    history.append(buffer)  # second
print(history[0] - history[2])
""",
    "the state of an environment in a replay buffer": """
class Env:
    def __init__(self):
        self.state = torch.zeros(3)
    def step(self):
        self.state += torch.randn(3)
        return self.state  # second
env, replay = Env(), deque(maxlen=10)
for step in range(6):
    state = env.step()
    replay.append((state, step))
states, _ = zip(*replay)
print(torch.stack(states).mean(0))
""",
    "the buffer of a loader": """
class Stream:
    def __init__(self):
        self.buffer = torch.empty(4, 3)
    def __iter__(self):
        for step in range(4):
            self.buffer.copy_(torch.ones(4, 3) * step)
            yield self.buffer  # second
batches = list(Stream())
print(torch.stack(batches).sum())
""",
    "a weight in a history": """
history = []
for step in range(4):
    history.append(model.weight)  # second
    train()
print(len(history))
""",
    "a gradient in a history": """
history = []
for step in range(4):
    optimizer.zero_grad(set_to_none=False)
    model(torch.ones(2, 3)).pow(2).sum().backward()
    history.append(model.weight.grad)  # second
    optimizer.step()
print(torch.stack(history).std())
""",
    "a state that is written through a view, in dicts": """
class Board:
    def __init__(self):
        self.cells = torch.zeros(3, 3)
    def play(self, at):
        self.cells.view(-1)[at] = 1
        return {"cells": self.cells}  # second
board, episode = Board(), []
for at in range(4):
    seen = board.play(at)
    episode.append((seen["cells"], at))
print(torch.stack([cells for cells, _ in episode]).sum())
""",
    "one model as all members of an ensemble": """
class Ensemble:
    def __init__(self):
        self.members = []
    def add(self, member):
        self.members.append(member)  # second
    def predict(self, x):
        return torch.stack([member(x) for member in self.members]).mean(0)
ensemble = Ensemble()
for step in range(4):
    train()
    ensemble.add(model)
print(ensemble.predict(torch.ones(1, 3)))
""",
    "views of a position": """
position, frames = torch.zeros(3), []
for step in range(4):
    position += 1
    frames.append(position.view(-1))  # second
print(torch.stack(frames).std())
""",
    "one state for all layers": """
states = [torch.zeros(3)] * 4  # second
for step in range(3):
    for i in range(4):
        states[i].add_(i)
print(torch.stack(states))
""",
    "a state that a method changes and gives, in a comprehension": """
class Walker:
    def __init__(self):
        self.at = torch.zeros(2)
    def move(self, by):
        self.at += by
        return self.at  # second
walker = Walker()
track = [walker.move(by) for by in torch.ones(4, 2)]
print(torch.stack(track))
""",
    "a running mean, put into a log by a method": """
class Log:
    def __init__(self):
        self.rows = []
    def add(self, value):
        self.rows.append(value)
log = Log()
for epoch in range(2):
    mean = torch.zeros(3)
    for step in range(3):
        mean.mul_(0.9).add_(torch.randn(3))
        log.add(mean)  # second
print(torch.stack(log.rows).std())
""",
    "a counter between two lines that put it": """
seen, counter = [], torch.zeros(2)
seen.append(counter)  # second
counter += 1
counter[0] = 7
seen.append(counter)
print(torch.stack(seen))
""",
    "a default argument": """
def mean(rows, total=torch.zeros(3)):  # second
    for row in rows:
        total += row
    return total / len(rows)
print(mean(torch.ones(2, 3)), mean(torch.ones(2, 3)))
""",
}


@pytest.mark.parametrize("case", ONE)
def test_the_line_that_made_no_copy_is_the_cause(case: str) -> None:
    (answer,) = found(ONE[case])
    line = line_of(HEAD + ONE[case], "# second")
    assert answer.causes[0].line == line
    assert all(".append(" in cause.source or ".move(" in cause.source for cause in answer.causes[1:])
    assert answer.text.startswith(f"Line {line}: ")


MEANT = {
    "a residual written in place": """
def block(x):
    out = x
    out += model(x)
    return out
block(torch.ones(3, 3).clone())
""",
    "a residual added in place to what was made from it": """
x = torch.ones(3, 3)
identity = x
x = x * 2
x += identity
print((x - identity).sum())
""",
    "the buffer of a loader that is used up at once": """
def stream():
    buffer = torch.empty(4, 3)
    for step in range(4):
        buffer.copy_(torch.ones(4, 3) * step)
        yield buffer
for batch in stream():
    print(model(batch).sum().item())
""",
    "layers that share their weights": """
def build(depth):
    shared, layers = nn.Linear(3, 3), []
    for _ in range(depth):
        layers.append(shared)
    return layers
for lr in (0.1, 0.2):
    layers = build(4)
    x = torch.ones(2, 3)
    for step in range(3):
        for layer in layers:
            x = layer(x)
        x.sum().backward()
        torch.optim.SGD(layers[0].parameters(), lr=lr).step()
        x = torch.ones(2, 3)
print(len(layers))
""",
    "a list of weights with a tied one": """
other = nn.Linear(3, 1)
other.weight = model.weight
weights = []
for layer in (model, other):
    weights.append(layer.weight)
train()
train()
print(len(weights))
""",
    "tied weights that a check compares": """
other = nn.Linear(3, 1)
other.weight = model.weight
train()
print(torch.equal(other.weight, model.weight))
assert torch.equal(other.weight, model.weight)
""",
    "a target that shares a part": """
class Critic(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body, self.head = body, nn.Linear(3, 1)
body = nn.Linear(3, 3)
critic, target = Critic(body), Critic(body)
target.body = critic.body
with torch.no_grad():
    for p, t in zip(critic.parameters(), target.parameters()):
        t.copy_(p)
""",
    "a weight that is normalised through its data": """
class Norm:
    def __init__(self):
        self.w = model.weight.data
    def project(self):
        self.w.div_(self.w.norm())
norm = Norm()
for step in range(3):
    train()
    norm.project()
""",
    "a state that is set anew": """
states = [torch.zeros(3)] * 4
for step in range(3):
    for i in range(4):
        states[i] = states[i] + i
print(torch.stack(states))
""",
    "a tensor that is repeated on purpose": """
results = []
def sample(x):
    for step in range(4):
        x.add_(model(torch.cat([x, x]))[:2] * 0)
    results.append(x)
sample(torch.ones(2, 3))
""",
    "two keys of a batch that is written before": """
tokens = torch.arange(4)
tokens[0] = 5
tokens[1] = 6
batch = {"inputs": tokens, "labels": tokens}
print(batch["inputs"].sum(), batch["labels"].sum())
""",
    "a buffer that each step makes": """
history = []
for step in range(3):
    buffer = torch.empty(3)
    buffer.copy_(torch.ones(3) * step)
    buffer.add_(1)
    history.append(buffer)
print(torch.stack(history))
""",
    "transitions of which each ends where the next begins": """
state, replay = torch.randn(4), []
for step in range(30):
    after = 0.9 * state
    after[:2] += torch.randn(2)
    after[2:] -= 1
    replay.append((state, after))
    state = after
for step in range(6):
    states = [replay[at][step % 2] for at in torch.randperm(30)[:8].tolist()]
    print(torch.stack(states).mean().item())
""",
    "states of both ends in one list": """
state, states = torch.randn(4), []
for step in range(6):
    after = torch.empty(4)
    for at in range(4):
        after[at] = state[at] * 0.9
    states.append(state)
    states.append(after)
    state = after
print(torch.stack(states).std())
""",
    "a memory that is drawn from with replacement": """
import random
memory = []
for step in range(6):
    row = torch.empty(3)
    for at in range(3):
        row[at] = step
    row.clamp_(max=4)
    memory.append(row)
print(torch.stack(random.choices(memory, k=20)).mean())
""",
    "what an environment copies before it changes it": """
class Env:
    def __init__(self):
        self.state = torch.zeros(3)
    def step(self):
        self.state = self.state.clone()
        self.state += torch.randn(3)
        self.state[0] = 1
        return self.state
env, states = Env(), []
for step in range(6):
    before = env.state
    states.append(before)
    states.append(env.step())
print(torch.stack(states).mean(0))
""",
    "a list of what is trained, made in each step": """
def trained():
    return [p for p in model.parameters() if p.requires_grad]
for step in range(6):
    weights = trained()
    if step > 2:
        weights.insert(0, model.bias)
        weights.insert(1, torch.zeros(1))
    if step > 4:
        weights.insert(0, torch.zeros(1))
    norm = sum(p.sum() for p in weights)
    train()
print(norm)
""",
    "rows of a table that batches take several times": """
table = [torch.randn(3) for _ in range(4)]
for step in range(5):
    rows = []
    for at in torch.randint(0, 4, (8,)).tolist():
        row = table[at]
        rows.append(row)
    mean = torch.stack(rows).mean(0)
    for row in table:
        row.lerp_(mean, 0.1)
""",
    "a list of one round that takes a state twice": """
state = torch.zeros(3)
for step in range(4):
    state += 1
    pair = []
    pair.append(state)
    pair.append(state)
    print(torch.stack(pair).sum().item())
""",
    "an average on memory of its own": """
shadow = {name: p.data.clone() for name, p in model.named_parameters()}
for step in range(3):
    train()
    for name, p in model.named_parameters():
        shadow[name].mul_(0.9).add_(p.data, alpha=0.1)
""",
    "a list of the parameters for clipping": """
params = [p for p in model.parameters()]
train()
for p in params:
    p.data.clamp_(-1, 1)
print(sum((p - p.mean()).sum() for p in params))
""",
    "an average that begins with a copy of the first model": AVERAGE.replace("every[0]", "copy.deepcopy(every[0])"),
}


@pytest.mark.parametrize("case", MEANT)
def test_what_is_meant_to_be_one_is_not_blamed(case: str) -> None:
    assert found(MEANT[case]) == []


BEST = """
import copy
import torch
from torch import nn
def make():
    return nn.Linear(3, 1)
def train(model, optimizer):
    optimizer.zero_grad()
    model(torch.ones(2, 3)).pow(2).sum().backward()
    optimizer.step()
def search():
    best_loss, best_model = 1e9, None
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for epoch in range(4):
        {anew}
        train(model, optimizer)
        loss = model(torch.ones(2, 3)).pow(2).sum().item()
        if loss < best_loss:
            best_loss = loss
            {kept}
    {then}
search()
"""
KEPT = "best_model = model  # here"
ANEW = "model = make(); optimizer = torch.optim.SGD(model.parameters(), lr=0.01)"


@pytest.mark.parametrize("then", ["return best_model", "print(best_model(torch.ones(2, 3)))", "model = best_model"])
def test_a_loop_that_keeps_the_best_of_its_model_has_to_copy_it(then: str) -> None:
    source = BEST.format(anew="pass", kept=KEPT, then=then)
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(HEAD + source, "# here")]


@pytest.mark.parametrize(
    ("anew", "kept", "then"),
    [
        ("pass", "best_model = copy.deepcopy(model)", "return best_model"),
        (ANEW, KEPT, "return best_model"),
        ("pass", f"{KEPT}\n            break", "return best_model"),
        ("pass", KEPT, "return model"),
        ("pass", "best_epoch = epoch", "return best_epoch"),
    ],
    ids=["a copy", "a model of each round", "it ends there", "it is not used", "a number"],
)
def test_the_best_of_several_models_or_a_copy_is_fine(anew: str, kept: str, then: str) -> None:
    assert found(BEST.format(anew=anew, kept=kept, then=then)) == []
