"""Snapshots that share memory with what they were taken from: blamed at the line that took them, and only there."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

CODE = "snapshot-shares-memory"
HEAD = """import copy, io
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


def found(source: str) -> list[Answer]:
    return [answer for answer in build(recorded(source)).answers if answer.code == CODE]


TAKEN = {
    "the best state of a loop": """
for epoch in range(4):
    train()
    if epoch == 1:
        best = model.state_dict()  # taken
model.load_state_dict(best)
""",
    "the best state of a loop, saved": """
for epoch in range(4):
    train()
    if epoch == 1:
        best = model.state_dict()  # taken
torch.save(best, io.BytesIO())
""",
    "an attribute": """
class Tracker:
    def __init__(self, w):
        self.w, self.prev = w, None
    def keep(self):
        self.prev = self.w.detach()  # taken
    def moved(self):
        return (self.w - self.prev).norm().item()
tracker = Tracker(model.weight)
for epoch in range(3):
    tracker.keep()
    train()
    print(tracker.moved())
""",
    "a list of data, compared": """
before = [p.data for p in model.parameters()]  # taken
train()
print([torch.equal(a, b) for a, b in zip(before, model.parameters())])
""",
    "a history": """
history = []
for epoch in range(3):
    train()
    history.append(model.weight.detach())  # taken
""",
    "an array": """
start = model.weight.detach().numpy()  # taken
optimizer.zero_grad()
model(torch.ones(2, 3)).pow(2).sum().backward()
optimizer.step()
print(start)
""",
    "arrays of all weights": """
start = {name: value.numpy() for name, value in model.state_dict().items()}  # taken
optimizer.zero_grad()
model(torch.ones(2, 3)).pow(2).sum().backward()
optimizer.step()
print(start["weight"])
""",
    "an array that numpy makes of a tensor": """
import numpy as np
start = np.asarray(model.weight.detach())  # taken
optimizer.zero_grad()
model(torch.ones(2, 3)).pow(2).sum().backward()
optimizer.step()
print(start)
""",
    "an array by dlpack": """
import numpy as np
start = np.from_dlpack(model.weight.detach())  # taken
optimizer.zero_grad()
model(torch.ones(2, 3)).pow(2).sum().backward()
optimizer.step()
print(start)
""",
    "an array in a loop": """
for epoch in range(3):
    train()
    if epoch == 0:
        kept = model.weight.detach().numpy()  # taken
print(kept)
""",
    "an average that begins as the weights": """
average = None
for epoch in range(4):
    train()
    if average is None:
        average = model.state_dict()  # taken
    else:
        for key, value in model.state_dict().items():
            average[key].mul_(0.5).add_(value, alpha=0.5)
""",
    "weights that are put back after a step aside": """
class Aside:
    def __init__(self, parameters):
        self.parameters, self.saved = list(parameters), {}
    def away(self):
        for p in self.parameters:
            self.saved[p] = p.data  # taken
            p.data.add_(0.1)
    def back(self):
        for p in self.parameters:
            p.data = self.saved[p]
aside = Aside(model.parameters())
for epoch in range(2):
    aside.away()
    model(torch.ones(2, 3))
    aside.back()
    train()
""",
    "a name that says so": """
old = model.weight.detach()  # taken
train()
print(old.norm(), model.weight.norm())
""",
    "arrays in a list": """
class Path:
    def __init__(self):
        self.points = []
    def record(self, p):
        self.points.append(p.detach().numpy())  # taken
path = Path()
for epoch in range(4):
    path.record(model.weight)
    train()
print(len(path.points))
""",
    "arrays that a function gives, in its caller's list": """
def values(layer):
    return layer.weight.data.cpu().numpy().ravel()  # taken
def run():
    track = []
    for epoch in range(4):
        track.append(values(model))
        train()
    return len(track)
run()
""",
    "views in a dict of a function": """
def run():
    kept = {}
    for epoch in range(4):
        kept[epoch] = model.weight.detach().flatten()  # taken
        train()
    return len(kept)
run()
""",
    "tensors of the array of an environment": """
import numpy as np
class Env:
    def __init__(self):
        self.obs = np.zeros(3, dtype=np.float32)
    def step(self):
        self.obs += 1
        return self.obs
env, rows = Env(), []
for step in range(5):
    rows.append(torch.as_tensor(env.step()))  # taken
print(len(rows))
""",
    "tensors of an array, joined": """
import numpy as np
row, rows = np.zeros(3, dtype=np.float32), []
for step in range(5):
    row[:] = step
    rows.append(torch.from_numpy(row))  # taken
print(torch.stack(rows).sum())
""",
    "tensors of the array of an environment, kept by a function and joined": """
import numpy as np
class Env:
    def __init__(self):
        self.obs = np.zeros(3, dtype=np.float32)
    def step(self):
        self.obs[0] += 1
        return self.obs
def as_state(obs):
    return torch.from_numpy(obs)  # taken
def collect(env):
    memory = []
    for step in range(5):
        now = as_state(env.step())
        memory.append((now, torch.ones(1)))
    return memory
def main():
    memory = collect(Env())
    states = torch.stack([one[0] for one in memory])
    for epoch in range(3):
        model(states).sum().backward()
main()
""",
    "tensors of an array, beside one of a copy": """
import numpy as np
row, memory = np.zeros(3, dtype=np.float32), []
obs = torch.from_numpy(row.copy())
for step in range(8):
    row[:] = 0.9 * row + step
    now = torch.from_numpy(row)  # taken
    memory.append((obs, step))
    obs = now
    if len(memory) > 4:
        model(torch.stack([one for one, _ in memory[-4:]])).sum().backward()
""",
    "tensors of an array, each given to the model": """
import numpy as np
def main():
    row, rows = np.zeros(3, dtype=np.float32), []
    for step in range(5):
        row += 1
        now = torch.from_numpy(row)  # taken
        model(now)
        rows.append(now)
    for now in rows:
        model(now).sum().backward()
main()
""",
    "a buffer written in place": """
position = torch.zeros(3)
last = position.detach()  # taken
position += 1
print((position - last).norm())
""",
}


@pytest.mark.parametrize("case", TAKEN)
def test_the_line_that_took_it_is_the_cause_and_no_other_line_is_named(case: str) -> None:
    source = HEAD + TAKEN[case]
    (answer,) = found(source)
    line = line_of(source, "# taken")
    assert answer.severity == "warning"
    assert [cause.line for cause in answer.causes] == [line]
    assert answer.text.startswith(f"Line {line}: ")
    assert answer.text.lower().count("line ") == 1


HEALTHY = {
    "copies": """
best = copy.deepcopy(model.state_dict())
before = [p.detach().clone() for p in model.parameters()]
train()
print((before[0] - model.weight).norm())
model.load_state_dict(best)
""",
    "a state that is loaded at once": """
target = nn.Linear(3, 1)
state = model.state_dict()
target.load_state_dict(state)
train()
train()
""",
    "a state that is saved each time": """
for epoch in range(3):
    train()
    state = model.state_dict()
    torch.save(state, io.BytesIO())
""",
    "an average of weights": """
target = copy.deepcopy(model)
for epoch in range(3):
    train()
    for t, s in zip(target.parameters(), model.parameters()):
        t.data.mul_(0.9).add_(s.data, alpha=0.1)
    live = model.state_dict()
    for name, value in target.state_dict().items():
        value.copy_(0.9 * value + 0.1 * live[name])
""",
    "an average that begins as a copy": """
average = None
for epoch in range(4):
    train()
    if average is None:
        average = copy.deepcopy(model.state_dict())
    else:
        for key, value in model.state_dict().items():
            average[key].mul_(0.5).add_(value, alpha=0.5)
""",
    "weights swapped for others and put back": """
average = [torch.zeros_like(p) for p in model.parameters()]
backup = [p.data for p in model.parameters()]
for p, other in zip(model.parameters(), average):
    p.data = other
model(torch.ones(2, 3))
for p, kept in zip(model.parameters(), backup):
    p.data = kept
train()
""",
    "a view to look through, again and again": """
views = [p.detach() for p in model.parameters()]
for epoch in range(3):
    train()
    print(sum(v.norm() for v in views))
""",
    "a view to write through": """
first = model.weight.data
for epoch in range(3):
    first.mul_(0.9)
    print((model.weight - first).norm())
""",
    "tied weights": """
other = nn.Linear(3, 1)
other.weight = model.weight
for epoch in range(3):
    train()
print((other.weight - model.weight).norm())
""",
    "a detach that is dropped": """
for epoch in range(3):
    shown = model.weight.detach()
    print(shown.norm())
    train()
""",
    "results of each step, in a list": """
outputs = []
for epoch in range(3):
    train()
    outputs.append(model(torch.ones(2, 3)).detach())
print(torch.stack(outputs).mean(), (outputs[0] - outputs[1]).norm())
""",
    "parts of a buffer that are filled one by one": """
buffer = torch.zeros(4, 3)
kept = []
for step in range(4):
    buffer[step] = step
    kept.append(buffer.detach()[step])
print(torch.stack(kept).sum())
""",
    "an array that is copied": """
start = model.weight.detach().numpy().copy()
for parameter in model.parameters():
    parameter.data.add_(1)
print(start)
""",
    "arrays of all weights that are copied": """
start = {name: value.numpy().copy() for name, value in model.state_dict().items()}
optimizer.zero_grad()
model(torch.ones(2, 3)).pow(2).sum().backward()
optimizer.step()
print(start["weight"])
""",
    "an array of another type": """
import numpy as np
start = np.asarray(model.weight.detach(), dtype=np.float64)
optimizer.zero_grad()
model(torch.ones(2, 3)).pow(2).sum().backward()
optimizer.step()
print(start)
""",
    "arrays that are copied, in a list": """
path = []
for epoch in range(4):
    path.append(model.weight.detach().numpy().copy())
    train()
print(len(path))
""",
    "rows of an array, filled one by one": """
buffer, kept = torch.zeros(5, 3), []
for step in range(5):
    buffer[step] = step
    kept.append(buffer.numpy()[step])
print(sum(row.sum() for row in kept))
""",
    "arrays of results": """
kept = []
for epoch in range(4):
    train()
    kept.append(model(torch.ones(2, 3)).detach().numpy())
print(sum(row.sum() for row in kept))
""",
    "a list of arrays that is emptied": """
kept = []
for epoch in range(8):
    kept.append(model.weight.detach().numpy())
    if len(kept) == 2:
        print(sum(row.sum() for row in kept))
        kept.clear()
    train()
""",
    "copies of the array of an environment": """
import numpy as np
row, rows = np.zeros(3, dtype=np.float32), []
for step in range(5):
    row += 1
    rows.append(torch.tensor(row))
    rows.append(torch.from_numpy(row).clone())
print(torch.stack(rows).sum())
""",
    "one array that fills up a batch": """
import numpy as np
def main():
    pad, data = np.zeros(3, dtype=np.float32), np.ones((2, 3), dtype=np.float32)
    data[0] = 2
    pad[0] = 1
    rows = [torch.from_numpy(row) for row in [data[0], data[1], pad, pad, pad]]
    batch = torch.stack(rows)
    for epoch in range(3):
        model(batch).sum().backward()
    return rows
main()
""",
    "one observation for all members of an ensemble": """
import numpy as np
def main():
    row = np.zeros(3, dtype=np.float32)
    for step in range(3):
        row[0] = step
        batch = torch.stack([torch.from_numpy(row) for _ in range(4)])
        model(batch).sum().backward()
main()
""",
    "an environment that gives a new array each time": """
import numpy as np
class Env:
    obs = np.zeros(3, dtype=np.float32)
    def step(self):
        self.obs[0] += 1
        return self.obs.copy()
def main():
    env = Env()
    rows = [torch.from_numpy(env.step()) for _ in range(5)]
    batch = torch.stack(rows)
    for epoch in range(3):
        model(batch).sum().backward()
    return rows
main()
""",
    "arrays of a data set": """
import numpy as np
data = np.ones((5, 3), dtype=np.float32)
rows = [torch.from_numpy(row) for row in data]
more = [torch.as_tensor(row) for row in data]
data += 1
print(torch.stack(rows).sum(), torch.stack(more).sum())
""",
    "arrays of all weights, to look through in each step": """
lines = {}
for name, p in model.named_parameters():
    lines[name] = p.detach().numpy()
for epoch in range(3):
    train()
    print({name: line.max() for name, line in lines.items()})
""",
    "a plot of each step": """
for epoch in range(3):
    weights = model.weight.detach().numpy()
    print(weights.sum())
    train()
""",
}


@pytest.mark.parametrize("case", HEALTHY)
def test_what_is_meant_is_not_blamed(case: str) -> None:
    source = HEAD + HEALTHY[case]
    recording = recorded(source)
    assert recording.info.outcome.kind == "ok"
    assert [
        answer
        for answer in build(recording).answers
        if answer.code in (CODE, "write-through-alias") and answer.severity == "warning"
    ] == []


def test_a_dict_that_is_made_anew_in_each_step_is_no_snapshot() -> None:
    source = f"""{HEAD}
for epoch in range(3):
    params = {{k: p.detach() for k, p in model.named_parameters()}}
    train()
shapes = {{k: torch.randn_like(p) for k, p in params.items()}}
total = sum(p.sum() for p in params.values())
"""
    assert found(source) == []


def test_the_line_that_keeps_it_in_an_object_is_named_beside_the_one_that_took_it() -> None:
    source = (
        HEAD
        + """
class Moved:
    last = None
    def __call__(self):
        now = model.weight.detach()  # taken
        moved = None if self.last is None else (now - self.last).norm().item()
        self.last = now  # kept
        return moved
moved = Moved()
for epoch in range(4):
    train()
    moved()
"""
    )
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# taken"), line_of(source, "# kept")]


RESTORED = (
    HEAD
    + """
table = model.weight
rows, ids = torch.arange(3) != 2, torch.tensor([0, 1])
original = {taken}  # taken
for step in range(3):
    train()
    with torch.no_grad():
        {put}
"""
)


@pytest.mark.parametrize("taken", ["table.detach()", "model.weight.data", "model.state_dict()['weight']"])
@pytest.mark.parametrize(
    "put",
    [
        "table[:, rows] = original[:, rows]",
        "table[0] = original[0]",
        "table.data[:, torch.arange(3) != 2] = original[:, torch.arange(3) != 2].clone()",
        "table.index_copy_(1, ids, original.index_select(1, ids))",
        "table.copy_(torch.where(rows, original, table))",
        "model.weight.data = rows * original + (~rows) * table",
        "table[:, :2].copy_(original[:, :2])",
        "print((table[:, ids] - original[:, ids]).norm())",
    ],
)
def test_rows_that_are_put_back_onto_themselves(taken: str, put: str) -> None:
    source = RESTORED.format(taken=taken, put=put)
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# taken")]
    if "[:, rows] =" in put:
        assert "changes nothing" in answer.text


@pytest.mark.parametrize(
    ("taken", "put"),
    [
        ("table.detach().clone()", "table[:, rows] = original[:, rows]"),
        ("table.detach().clone()", "table.copy_(torch.where(rows, original, table))"),
        # Others are put there than those that are there: rows are moved about.
        ("table.detach()", "table[:, 1:] = original[:, :-1].clone()"),
        ("table.detach()", "table[:, ids] = original[:, ids.flip(0)]"),
        ("table.detach()", "table[:, torch.randperm(3)] = original[:, torch.randperm(3)]"),
        ("table.detach()", "table.copy_(torch.where(rows, original, torch.zeros(3)))"),
    ],
)
def test_copies_and_other_rows_are_no_rows_put_back_onto_themselves(taken: str, put: str) -> None:
    source = RESTORED.format(taken=taken, put=put).replace("original", "others")
    assert found(source) == []


def test_a_mask_that_keeps_the_gradient_off_some_rows_needs_no_copy() -> None:
    source = f"""{HEAD}
fixed, rows = model.weight.detach(), torch.arange(3) != 2
for step in range(3):
    weight = torch.where(rows, fixed, model.weight)
    optimizer.zero_grad()
    nn.functional.linear(torch.ones(2, 3), weight).pow(2).sum().backward()
    optimizer.step()
"""
    assert found(source) == []
