"""An average that is put into the model for an evaluation: told where training goes on from it."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SHADOW = """
import torch
net = torch.nn.Linear(4, 1)
shadow = {n: p.detach().clone() for n, p in net.named_parameters()}
backup = {}
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
x = torch.randn(8, 4)
for epoch in range(3):
    for _ in range(3):
        optimizer.zero_grad()
        net(x).pow(2).mean().backward()
        optimizer.step()
        for n, p in net.named_parameters():
            shadow[n] = 0.9 * shadow[n] + 0.1 * p.detach()
    for n, p in net.named_parameters():
        backup[n] = p.data
        p.data = shadow[n]
    with torch.no_grad():
        net(x)
    RESTORE
"""

LOOKAHEAD = """
import torch
net = torch.nn.Linear(4, 1)
slow = [p.detach().clone() for p in net.parameters()]
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
x = torch.randn(8, 4)
for step in range(16):
    optimizer.zero_grad()
    net(x).pow(2).mean().backward()
    optimizer.step()
    if step % 4 == 3:
        with torch.no_grad():
            for s, p in zip(slow, net.parameters()):
                s.add_(p - s, alpha=0.5)
                p.copy_(s)
            net(x)
"""


def codes(source: str) -> dict[str, list[int]]:
    answers = build(recorded(source)).answers
    return {one.code: [cause.line for cause in one.causes] for one in answers if one.severity != "note"}


def test_a_shadow_that_is_set_as_data_and_stays_is_named_where_it_is_set():
    assert codes(SHADOW.replace("RESTORE", "pass")) == {"average-left-in-model": [16]}


@pytest.mark.parametrize(
    "source",
    [
        SHADOW.replace("RESTORE", "for n, p in net.named_parameters(): p.data = backup[n]"),
        SHADOW.replace("RESTORE", "break"),
        LOOKAHEAD,
    ],
)
def test_what_is_put_back_ends_the_training_or_is_mixed_once_is_fine(source: str):
    assert codes(source) == {}


SOMETIMES = """
import copy, torch
net = torch.nn.Linear(4, 1)
mean = copy.deepcopy(net).requires_grad_(False)
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
x = torch.randn(8, 4)
def train():
    for _ in range(3):
        optimizer.zero_grad()
        net(x).pow(2).mean().backward()
        optimizer.step()
        with torch.no_grad():
            for m, p in zip(mean.parameters(), net.parameters()):
                m.lerp_(p, 0.1)
def swap(state):
    net.load_state_dict(state)
def evaluate(epoch):
    kept = copy.deepcopy(net.state_dict())
    swap(mean.state_dict())
    with torch.no_grad():
        net(x)
    BACK
for epoch in range(6):
    train()
    evaluate(epoch)
"""


@pytest.mark.parametrize(
    ("back", "lines", "text"),
    [
        ("if epoch % 2:\n        return\n    swap(kept)", [22, 23], "Line 22: after this return"),
        ("if epoch % 2:\n        swap(kept)", [22, 21], "under the condition of line 21 only"),
    ],
)
def test_what_leaves_before_the_values_are_put_back_is_named(back: str, lines: list[int], text: str):
    (answer,) = build(recorded(SOMETIMES.replace("BACK", back))).answers
    assert answer.code == "average-left-in-model"
    assert [cause.line for cause in answer.causes] == lines
    assert text in answer.text


@pytest.mark.parametrize(
    "back",
    [
        "if epoch % 2:\n        return swap(kept)\n    swap(kept)",
        "if epoch == 5:\n        return\n    swap(kept)",
        "swap(kept)",
    ],
)
def test_what_puts_them_back_on_every_way_out_is_fine(back: str):
    assert codes(SOMETIMES.replace("BACK", back)) == {}


CHECKPOINTS = """
import copy, io, torch
net = torch.nn.Linear(4, 1)
mean = {n: v.clone() for n, v in net.state_dict().items()}
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
x = torch.randn(8, 4)
def put(state):
    with torch.no_grad():
        for n, average in mean.items():
            STORED
def save():
    SAVES
for epoch in range(3):
    for _ in range(3):
        optimizer.zero_grad()
        net(x).pow(2).mean().backward()
        optimizer.step()
        with torch.no_grad():
            for n, p in net.named_parameters():
                mean[n].lerp_(p, 0.1)
    save()
    EVALUATED
"""
STORED = "state[n].copy_(average)  # stored"
IN_DICT = """packed = {"model": net.state_dict(), "epoch": epoch}  # taken
    put(packed["model"])
    torch.save(packed, io.BytesIO())"""
BY_NAME = """state = net.state_dict()  # taken
    for n, average in mean.items():
        state[n].copy_(average)  # copied
    torch.save(state, io.BytesIO())"""
DETACHED = BY_NAME.replace("net.state_dict()", "{n: p.detach() for n, p in net.named_parameters()}")
EVALUATED = "with torch.no_grad(): net(x)"


@pytest.mark.parametrize("evaluated", [EVALUATED, "pass"])
@pytest.mark.parametrize(("saves", "mark"), [(IN_DICT, "# stored"), (BY_NAME, "# copied"), (DETACHED, "# copied")])
def test_an_average_that_is_written_into_the_state_for_a_file(saves: str, mark: str, evaluated: str):
    """The write and what took the state are named, whether the model is evaluated then or not."""
    source = CHECKPOINTS.replace("SAVES", saves).replace("STORED", STORED).replace("EVALUATED", evaluated)
    expected = [line_of(source, mark), line_of(source, "# taken")]
    assert codes(source) == {"average-left-in-model": expected}


@pytest.mark.parametrize(
    "saves",
    [
        IN_DICT.replace("net.state_dict()", "copy.deepcopy(net.state_dict())"),
        BY_NAME.replace("state[n].copy_(average)", "state[n] = average"),
        IN_DICT + "\n    ".join(("", "net.load_state_dict(kept)")),
    ],
)
def test_a_state_that_is_copied_or_put_back_is_left_alone(saves: str):
    saves = "kept = copy.deepcopy(net.state_dict())\n    " + saves
    source = CHECKPOINTS.replace("SAVES", saves).replace("STORED", STORED).replace("EVALUATED", EVALUATED)
    assert codes(source) == {}


def test_a_state_that_is_written_for_an_evaluation_is_told_of_where_that_is_asked_for():
    """Nothing stores it: the model is meant, and what lacks is to put its values back."""
    saves = "state = net.state_dict()\n    put(state)  # asked"
    source = CHECKPOINTS.replace("SAVES", saves).replace("STORED", STORED).replace("EVALUATED", EVALUATED)
    [lines] = codes(source).values()
    assert line_of(source, "# stored") not in lines
    assert codes(source.replace(EVALUATED, "pass")) == {}


STORING = """
import copy, io, torch
class Average:
    def __init__(self, net):
        self.shadow = [p.detach().clone() for p in net.parameters()]
    def update(self, net):
        with torch.no_grad():
            for s, p in zip(self.shadow, net.parameters()):
                s.lerp_(p, 0.1)
    def apply(self, net):
        with torch.no_grad():
            for s, p in zip(self.shadow, net.parameters()):
                p.copy_(s)
net = torch.nn.Linear(4, 1)
average, files = Average(net), {}
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
x = torch.randn(8, 4)
def store(epoch):
    kept = copy.deepcopy(net.state_dict())
    average.apply(net)  # asked
    STORES
for epoch in range(3):
    for _ in range(MIXED):
        optimizer.zero_grad()
        net(x).pow(2).mean().backward()
        optimizer.step()
        average.update(net)
    store(epoch)
"""
STORES = [
    "torch.save(net.state_dict(), io.BytesIO())",
    "packed = {'net': net.state_dict(), 'epoch': epoch}\n    torch.save(packed, io.BytesIO())",
    "torch.save(net, io.BytesIO())",
    "files[epoch] = copy.deepcopy(net.state_dict())",
    "files[epoch] = {name: value.clone() for name, value in net.state_dict().items()}",
]


@pytest.mark.parametrize("stores", STORES)
def test_an_average_that_is_put_into_the_model_to_be_stored_is_named_where_that_is_asked_for(stores: str):
    source = STORING.replace("STORES", stores).replace("MIXED", "3")
    assert codes(source) == {"average-left-in-model": [line_of(source, "# asked")]}


@pytest.mark.parametrize(
    ("stores", "mixed"),
    [
        (STORES[0] + "\n    net.load_state_dict(kept)", "3"),
        (STORES[3] + "\n    net.load_state_dict(kept)", "3"),
        (STORES[0], "3 * (epoch == 0)"),
        (STORES[0], "1"),
        ("state = net.state_dict()", "3"),
    ],
)
def test_a_stored_average_that_is_replaced_ends_the_training_or_is_a_step_of_its_own_is_fine(stores: str, mixed: str):
    assert codes(STORING.replace("STORES", stores).replace("MIXED", mixed)) == {}
