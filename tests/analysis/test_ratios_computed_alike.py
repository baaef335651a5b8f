"""Log-probabilities that one function computes twice, both with a graph: the ratio of the two is 1."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
from torch.nn import functional as F
torch.manual_seed(0)
policy = nn.Sequential(nn.Embedding(6, 8), nn.Tanh(),{between} nn.Linear(8, 6))
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
bias = torch.zeros(6)
def score(ids):
    logits = policy(ids[:, :-1]) + bias
    return {scored}
def rollout():
    ids = torch.randint(6, (4, 5))
    return dict(ids=ids, old={old}, gain=torch.rand(4, 1))  # keeps
def update(data):
    {before}
    new = score(data["ids"])
    ratio = torch.exp(new - data["old"])
    loss = -torch.min(ratio * data["gain"], ratio.clamp(0.8, 1.2) * data["gain"]).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
for _ in range(4):
    update(rollout())
"""
GATHERED = "F.log_softmax(logits, -1).gather(-1, ids[:, 1:, None])[..., 0]"
ENTROPY = "-F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction='none').view(4, -1)"
LESS = "logits.gather(-1, ids[:, 1:, None])[..., 0] - logits.logsumexp(-1)"


def told(scored: str, old: str = "score(ids)", before: str = "pass", between: str = "") -> list[list[int]]:
    source = PROGRAM.format(scored=scored, old=old, before=before, between=between)
    answers = build(recorded(source)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "ratio-without-gradient"]


@pytest.mark.parametrize("scored", [GATHERED, ENTROPY, LESS, f"({GATHERED}).sum(-1, keepdim=True)"])
def test_the_call_that_keeps_the_old_one_is_named(scored: str) -> None:
    assert told(scored) == [[line_of(PROGRAM, "# keeps"), line_of(PROGRAM, "ratio = torch.exp")]]


@pytest.mark.parametrize(
    ("old", "before", "between"),
    [
        ("score(ids).detach()", "pass", ""),
        ("score(ids)", "pass", " nn.Dropout(0.5),"),  # two draws: the ratio is another one
        ("score(ids.flip(0))", "pass", ""),
        ("score(ids)", "bias[1] += 1", ""),
        ("score(ids)", "data['ids'] = data['ids'].roll(1, 0)", ""),
    ],
    ids=["detached", "drawn", "others", "written", "moved"],
)
def test_what_is_not_computed_alike_is_fine(old: str, before: str, between: str) -> None:
    assert told(GATHERED, old, before, between) == []


def test_other_items_of_the_same_are_fine() -> None:
    source = """
import torch
net = torch.nn.Linear(3, 4)
rows = torch.rand(4, 3)
def log_chance(i):
    return torch.log_softmax(net(rows), 1)[i]
(log_chance(0) - log_chance(1)).exp().sum().backward()
"""
    assert [one for one in build(recorded(source)).answers if one.code == "ratio-without-gradient"] == []
