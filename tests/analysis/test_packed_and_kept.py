"""Pack functions of saved-tensor hooks that keep what every pass saved."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import itertools
import torch
from torch.autograd.graph import saved_tensors_hooks
class Keeper:
    def __init__(self):
        self.store, self.rows, self.count = {{}}, [], 0
        self.ids = itertools.count()
    def pack(self, tensor):
        {key}
        {put}
        return key
    def unpack(self, key):
        return {taken}
    def hooks(self):
        return saved_tensors_hooks(self.pack, self.unpack)
w = torch.rand(8, 8, requires_grad=True)
keeper = Keeper()
for step in range({passes}):
    {before}
    with keeper.hooks():
        loss = (w * w).sum()
    loss.backward()
    w.grad = None
    {after}
"""
USUAL = {
    "key": "key = next(self.ids)",
    "put": "self.store[key] = tensor.detach().clone()",
    "taken": "self.store[key]",
    "before": "pass",
    "after": "pass",
    "passes": "5",
}


def found(changes: dict[str, str]) -> list[list[int]]:
    answers = build(recorded(PROGRAM.format(**USUAL | changes))).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "packed-and-kept"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"put": "self.store[key] = tensor.numpy().copy()", "taken": "torch.from_numpy(self.store[key])"},
        {"key": "key = len(self.rows)", "put": "self.rows.append((tensor.device, tensor.half()))"}
        | {"taken": "self.rows[key][1].float()"},
        {"key": "self.count += 1; key = self.count"},
    ],
)
def test_the_line_that_stores_comes_first(changes: dict[str, str]) -> None:
    source = PROGRAM.format(**USUAL | changes)
    put, taken = ({**USUAL, **changes}[one] for one in ("put", "taken"))
    if "count" in changes.get("key", ""):
        put = USUAL["put"]
    assert found(changes) == [[line_of(source, put), line_of(source, f"return {taken}")]]


@pytest.mark.parametrize(
    "changes",
    [
        {"taken": "self.store.pop(key)"},
        {"after": "keeper.store.clear()"},
        {"after": "keeper.store = {}"},
        {"before": "keeper = Keeper()"},
        {"key": "self.count += 1; key = self.count", "after": "keeper.count = 0"},
        {"key": "key = tensor.half()", "put": "self.rows.append(tensor.numel())", "taken": "key.float()"},
        {"passes": "2"},
    ],
)
def test_what_is_emptied_made_anew_or_small_is_left_alone(changes: dict[str, str]) -> None:
    assert found(changes) == []
