"""Small views that keep large blocks: the line that makes them is named, and none where the block is needed anyway."""

from __future__ import annotations

import pytest

from gradscope.analysis.facts.memory import kept_views
from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

HEAD = """import torch
from torch import nn
layer = nn.Linear(16, 16)
"""


def found(source: str) -> list[Answer]:
    return [answer for answer in build(recorded(source)).answers if answer.code == "block-kept-by-view"]


KEPT = {
    "rows of an object": """
class Bank:
    def __init__(self):
        self.rows = []
    def add(self, tokens):
        self.rows.append(tokens[:, 0])  # view
bank = Bank()
with torch.no_grad():
    for step in range(6):
        bank.add(layer(torch.ones(4, 100, 16)))
""",
    "a dict of detached parts, gone at the end": """
def run():
    kept = {}
    for step in range(6):
        out = layer(torch.ones(4, 100, 16))
        out.sum().backward()
        kept[step] = out.detach()[0, :2]  # view
    return sum(part.sum() for part in kept.values())
print(run())
""",
    "a view that a call returns": """
def summary(x):
    return (x * 2)[:1]  # view
cache = [summary(torch.ones(100, 50)) for step in range(6)]
""",
}

SEVERAL = """
class Album:
    def __init__(self):
        self.crops = []
    def collect(self, frames):
        for frame in frames:
            crop = frame[:, 4:8, 4:8]  # view
            self.crops.append(crop)  # puts away
album = Album()
for step in range(5):
    album.collect(torch.ones(3, 3, 64, 64) * step)
"""


def test_several_views_of_each_block_are_found_with_the_line_that_puts_them_away():
    source = HEAD + SEVERAL
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# view"), line_of(source, "# puts away")]
    assert "15 views" in answer.text
    assert "keep 720.0 KiB alive" in answer.text
    assert found(source.replace("frame[:, 4:8, 4:8]", "frame[:, 4:8, 4:8].clone()")) == []


@pytest.mark.parametrize("case", KEPT)
def test_the_line_that_makes_the_views_is_the_cause(case: str) -> None:
    source = HEAD + KEPT[case]
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# view")]
    assert "6 views" in answer.text


LARGEST = """
import heapq
import itertools
class Hardest:
    def __init__(self):
        self.heap, self.ticket = [], itertools.count()
    def offer(self, images, losses):
        for image, loss in zip(images, losses.tolist()):  # view
            heapq.heappush(self.heap, (loss, next(self.ticket), image{}))  # puts away
            if len(self.heap) > 12:
                heapq.heappop(self.heap)
torch.manual_seed(0)
hardest = Hardest()
for step in range(12):
    hardest.offer(torch.rand(64, 3, 16, 16), torch.rand(64))
print(torch.stack([image for *_, image in hardest.heap]).mean())
"""


def test_items_of_a_loop_over_a_tensor_that_a_heap_keeps() -> None:
    source = HEAD + LARGEST.format("")
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# view"), line_of(source, "# puts away")]
    assert "12 views" in answer.text
    assert found(HEAD + LARGEST.format(".clone()")) == []


def test_much_memory_that_torch_made_larger_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    source = HEAD + HEALTHY["means whose blocks torch made larger"]
    monkeypatch.setattr(kept_views, "WORTH_SAYING_OF_TORCHS", 64 * 1024)
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "loss.detach()")]


HEALTHY = {
    "all items of each batch": """
kept = []
for step in range(6):
    for row in torch.rand(32, 3, 16, 16):
        kept.append(row)
print(torch.stack(kept).mean())
""",
    "items that are only looked at": """
seen = []
for step in range(6):
    for row in torch.rand(32, 3, 16, 16):
        seen.append(row.mean().item())
""",
    "copies": "rows = []\nfor step in range(6):\n    rows.append((torch.ones(4, 100, 16) * 2)[:, 0].clone())\n",
    "the whole is kept too": """
whole, rows = [], []
for step in range(6):
    tokens = torch.ones(4, 100, 16) * step
    whole.append(tokens)
    rows.append(tokens[:, 0])
print(torch.cat(whole).sum(), torch.cat(rows).sum())
""",
    "parts of one block": """
block = torch.ones(64, 16, 16) * 2
rows = [block[n] for n in range(64)]
print(torch.stack(rows).sum())
""",
    "parts of batches that were there before": """
data = [torch.ones(4, 100, 16) for step in range(6)]
rows = []
for batch in data:
    rows.append(batch[:, 0])
print(torch.cat(data).sum())
""",
    "views that are dropped": "for step in range(9):\n    print((torch.ones(4, 100, 16) * step)[:, 0].sum())\n",
    "nearly all of it": """
rows = []
for step in range(6):
    rows.append((torch.ones(4, 100, 16) * step)[:, 1:])
""",
    "little memory": "rows = []\nfor step in range(6):\n    rows.append((torch.ones(4, 10) * step)[0, :1])\n",
    "means whose blocks torch made larger": """
losses = []
for step in range(200):
    loss = nn.functional.mse_loss(layer(torch.ones(16, 16)), torch.ones(16, 16))
    loss.backward()
    losses.append(loss.detach())
print(torch.stack(losses).mean())
""",
    "views that torch's own function takes": """
from torch.nn.utils import prune
net = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 200))
wanted = [(part, "weight") for part in net]
for step in range(5):
    prune.global_unstructured(wanted, pruning_method=prune.L1Unstructured, amount=0.1)
""",
    "all parts of each": """
parts = []
for step in range(6):
    parts.extend((torch.ones(16, 100, 4) * step).unbind(0))
""",
}


@pytest.mark.parametrize("case", HEALTHY)
def test_where_the_block_is_needed_nothing_is_said(case: str) -> None:
    assert found(HEAD + HEALTHY[case]) == []


def test_what_torchs_own_functions_slice_and_keep_is_no_choice_of_the_program() -> None:
    program = """
import torch
from torch import nn
from torch.nn.utils import prune
layers = [nn.Linear(100, 100), nn.Linear(100, 4)]
for round in range(6):
    prune.global_unstructured([(one, "weight") for one in layers], prune.L1Unstructured, amount=0.1)
print(layers[1](torch.rand(2, 100)).sum().item())
"""
    assert "block-kept-by-view" not in [one.code for one in build(recorded(program)).answers]


COLLECTED = """
import numpy as np
kept, other = [], []
def collect():
    for step in range(8):
        out = layer(torch.ones(200, 16))
        out.sum().backward()
        {}
collect()
print(np.concatenate(kept).sum())
"""


@pytest.mark.parametrize(
    "keeping",
    [
        "kept.append(out.detach().numpy()[:, 0])  # view",
        "kept.append(out.detach().cpu().numpy()[..., 0])  # view",
        "array = out.detach().numpy()  # view\n        kept.append(array[:5, 0])",
        "array = out.detach().numpy()  # view\n        print(array.mean()); kept.append(array[0])",
        "kept.append(out[:, 0].detach().numpy())  # view",
    ],
)
def test_parts_of_arrays_that_are_kept(keeping: str) -> None:
    source = HEAD + COLLECTED.format(keeping)
    assert [answer.causes[0].line for answer in found(source)] == [line_of(source, "# view")]


@pytest.mark.parametrize(
    "keeping",
    [
        "kept.append(out.detach().numpy()[:, 0].copy())",
        "kept.append(out.detach().numpy()[:, :8])",
        "kept.append(out.detach().numpy()[:, [0]])",
        "kept.append(out.detach().numpy()[:, 0].astype('float64'))",
        "other.append(out.detach()); kept.append(out.detach().numpy()[:, 0])",
        "array = out.detach().numpy(); other.append(array); kept.append(array[0])",
        "array = out.detach().numpy(); kept.extend(array[i] for i in range(200))",
        "kept[:] = [out.detach().numpy()[:, 0]]",
        "kept.append(out[:, 0].detach().clone().numpy())",
        "kept.append(out.detach().numpy()[:, 0]); other.append(out.detach().numpy()[:, 1:])",
        "kept.append(out.detach().mean(1).numpy())",
    ],
)
def test_arrays_of_which_nothing_more_is_kept_than_shown(keeping: str) -> None:
    assert found(HEAD + COLLECTED.format(keeping)) == []
