"""A padding index that is an item like the others, told from padding and from what is missing."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SEQUENCES = """
import torch
from torch import nn
class Model(nn.Module):
    def __init__(self, items):
        super().__init__()
        self.table = nn.Embedding(items, 8, padding_idx=0)  # made
        self.rnn, self.out = nn.GRU(8, 8, batch_first=True), nn.Linear(8, items)
    def forward(self, ids):
        return self.out(self.rnn(self.table(ids))[0][:, -1])
torch.manual_seed(0)
model = Model(12)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
data = torch.randint(0, 12, (32, 9))
for step in range(4):
    batch = data[torch.randperm(32)[:16]]
    loss = nn.functional.cross_entropy(model(batch[:, :-1]), batch[:, -1])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""

PAIRS = """
import torch
from torch import nn
torch.manual_seed(0)
user = nn.Embedding(20, 4)
item = nn.Embedding(num_embeddings=10, embedding_dim=4, padding_idx=9)  # made
optimizer = torch.optim.Adam([*user.parameters(), *item.parameters()], lr=0.01)
u, i = torch.arange(400) % 20, torch.arange(400) % 10
for step in range(4):
    loss = ((user(u) * item(i)).sum(1) - 3).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def found(source: str) -> list[list[int]]:
    answers = [one for one in build(recorded(source)).answers if one.code == "padding-is-an-item"]
    return [[cause.line for cause in one.causes] for one in answers]


@pytest.mark.parametrize(
    "source",
    [
        SEQUENCES,
        SEQUENCES.replace("batch_first=True", "batch_first=False")
        .replace("[0][:, -1]", "[0][-1]")
        .replace("model(batch[:, :-1])", "model(batch[:, :-1].T)"),
        PAIRS,
        PAIRS.replace("item(i)", "item(i[:, None])[:, 0]"),
    ],
    ids=["sequences", "time first", "pairs", "a column"],
)
def test_an_item_like_the_others(source: str) -> None:
    assert [lines[0] for lines in found(source)] == [line_of(source, "# made")]


@pytest.mark.parametrize(
    ("source", "before", "after"),
    [
        (SEQUENCES, ", padding_idx=0", ""),
        (SEQUENCES, "for step", "for row in range(32):\n    data[row, row % 6 + 2 :] = 0\nfor step"),
        (SEQUENCES, "for step", "for row in range(32):\n    data[row, : row % 6 + 1] = 0\nfor step"),
        (SEQUENCES, "torch.randint(0,", "torch.randint(1,"),
        (SEQUENCES, "data = torch.randint(0, 12, (32, 9))", "data = torch.randint(0, 12, (32, 9)); seen = data != 0"),
        (SEQUENCES, "batch[:, -1])", "batch[:, -1], ignore_index=0)"),
        (SEQUENCES, "(items, 8,", "(items + 1, 8,"),
        (SEQUENCES, "# made", "\n        self.table.weight.requires_grad_(False)"),
        (PAIRS, "torch.arange(400) % 10", "(torch.arange(400) % 10).clamp(max=8)"),
        (PAIRS, "torch.arange(400) % 10", "torch.where(torch.arange(400) % 2 > 0, torch.arange(400) % 10, 9)"),
        (PAIRS, "num_embeddings=10", "num_embeddings=9 + 1"),
        (PAIRS, "num_embeddings=10", "num_embeddings=12"),
        (PAIRS, "torch.arange(400) % 10", "torch.cat([torch.arange(360) % 10, torch.full((40,), 9)])"),
    ],
    ids=[
        "no padding index",
        "padding behind",
        "padding before",
        "items from one on",
        "compared",
        "ignored",
        "a row more",
        "frozen",
        "never looked up",
        "often missing",
        "a row more of pairs",
        "rows to spare",
        "a share of its own",
    ],
)
def test_padding(source: str, before: str, after: str) -> None:
    assert before in source
    assert found(source.replace(before, after, 1)) == []


def test_padding_that_is_time_first() -> None:
    source = SEQUENCES.replace("batch_first=True", "batch_first=False").replace("[0][:, -1]", "[0][-1]")
    source = source.replace("model(batch[:, :-1])", "model(batch[:, :-1].T)")
    source = source.replace("(0, 12, (32, 9))", "(1, 12, (32, 9))")
    source = source.replace("for step", "for row in range(32):\n    data[row, row % 6 + 2 :] = 0\nfor step", 1)
    assert found(source) == []
