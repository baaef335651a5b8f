"""Learning rates, schedulers, train() and eval() as events."""

import pytest
import torch
from torch import nn

from gradscope.analysis.facts.events import Events
from gradscope.analysis.index import Index
from gradscope.recording.rows import EventKind
from tests.analysis.building import FILE, recorded

HEAD = """
import torch
from torch import nn
net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
def step():
    net(torch.ones(3, 2)).sum().backward()
    optimizer.step()
"""


def details(source: str, kind: EventKind) -> list[dict[str, object]]:
    return [event.detail for event in Events(Index(recorded(HEAD + source))).of(kind)]


def test_a_rate_is_noted_at_the_first_step_and_where_it_becomes_zero_or_is_no_more() -> None:
    source = "step(); step(); optimizer.param_groups[0]['lr'] = 0.1; step(); step()"
    assert details(source, EventKind.LEARNING_RATE) == [{"zero": [True]}, {"zero": [False]}]
    assert details(source, EventKind.LEARNING_RATE) == [{"zero": [True]}, {"zero": [False]}]  # and in a new recording


def test_a_scheduler_is_noted_when_made_and_when_it_steps_too_early() -> None:
    made = "scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)\n"
    early = {"scheduler": "StepLR", "call": "early"}
    assert early in details(f"{made}scheduler.step()", EventKind.LEARNING_RATE)
    assert early not in details(f"{made}step()\nscheduler.step()", EventKind.LEARNING_RATE)
    assert details(made, EventKind.LEARNING_RATE) == [{"scheduler": "StepLR", "call": "made", "of": 1}]


def test_only_the_outermost_call_that_sets_a_mode_is_noted() -> None:
    source = """
class Kept(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net
    def train(self, mode=True):
        super().train(mode)
        self.net[1].eval()
outer = nn.Sequential(Kept())
outer.train()
"""
    found = [(one["module"], one["training"]) for one in details(source, EventKind.TRAINING_MODE)]
    assert found == [("Sequential", True), ("Kept", True), ("BatchNorm1d", False)]
    (one,) = details("net.eval()", EventKind.TRAINING_MODE)
    assert one == {"module": "Sequential", "training": False, "dropouts": 1, "norms": 1}


def test_torch_is_as_it_was_afterwards() -> None:
    scheduler = torch.optim.lr_scheduler.LRScheduler
    before = nn.Module.train, dict(vars(scheduler))
    recorded(HEAD)
    assert (nn.Module.train, dict(vars(scheduler))) == before


def test_torch_warns_whom_it_warns_of_an_early_step_without_us() -> None:
    source = HEAD + "torch.optim.lr_scheduler.StepLR(optimizer, 1).step()"
    files = []
    for run in (lambda: exec(compile(source, FILE, "exec"), {}), lambda: recorded(source)):
        with pytest.warns(UserWarning, match="before `optimizer.step") as warned:
            run()
        files.append({one.filename for one in warned if "optimizer.step" in str(one.message)})
    assert files[0] == files[1]
