"""Dicts that keep a tensor itself beside copies of others: told where it is put back when it had been written."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

TRACKER = """import copy
import torch
class Tracker:
    def __init__(self, w):
        self.count = torch.zeros(())
        self.mean = w.clone()
    def update(self, w):
        self.count += 1  # writes
        self.mean.mul_(0.9).add_(w, alpha=0.1)
    def state(self):
        return {
            "count": self.count,  # kept
            "mean": self.mean.clone(),
        }
    def load(self, state):
        self.count = state["count"].clone()
        self.mean = state["mean"].clone()
w = torch.ones(3)
tracker = Tracker(w)
for step in range(6):
    tracker.update(w * step)
    if step == 1:
        kept = tracker.state()
again = Tracker(w)
again.load(kept)
print(again.count, again.mean)
"""
LITERAL = TRACKER[TRACKER.index("        return {") : TRACKER.index("    def load")]
LOADED = 'self.count = state["count"].clone()'
KEPT = "    if step == 1:\n        kept = tracker.state()\n"


def found(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == "snapshot-shares-memory"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        (LITERAL, "        return dict(count=self.count, mean=copy.deepcopy(self.mean))  # kept\n"),
        (
            LITERAL,
            '        out = {}\n        out["mean"] = self.mean.clone()\n        out["count"] = self.count  # kept\n'
            "        return out\n",
        ),
        (LOADED, 'self.count.copy_(state["count"])'),
        (LOADED, 'self.count = state.get("count") + 0'),
        ("self.count += 1", "self.count.add_(1)"),
        ("again = Tracker(w)\nagain.load(kept)", "again = tracker\nagain.load(kept)"),
    ],
)
def test_the_item_that_is_no_copy_is_the_cause(old: str, new: str) -> None:
    assert old in TRACKER
    source = TRACKER.replace(old, new, 1)
    (answer,) = found(source)
    assert answer.causes[0].line == line_of(source, "# kept")
    assert "beside copies of others: line" in answer.text and "4 times since" in answer.text


def test_a_dict_of_the_script_is_one() -> None:
    source = """
    import torch
    w, seen = torch.ones(3), torch.zeros(())
    for step in range(5):
        w.mul_(0.5)
        seen.add_(1)
        if step == 1:
            best = {"w": w.clone(), "seen": seen}  # kept
    w = best["w"].clone()
    seen = best["seen"].clone()
    print(w, seen)
    """
    (answer,) = found(source)
    assert answer.causes[0].line == line_of(source.lstrip("\n"), "# kept")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"count": self.count,', '"count": self.count.clone(),'),
        ("self.count += 1", "self.count = self.count + 1"),
        ('"mean": self.mean.clone()', '"mean": self.mean'),  # all of it is what is there now
        (KEPT, "    kept = tracker.state()\n"),  # nothing is written before it is put back
        (LOADED, 'print(state["count"].item())'),  # not put back
        ("again.load(kept)", ""),
        ("    if step == 1:\n", "    if step == 5:\n"),
    ],
)
def test_what_is_not_put_back_or_not_written_is_none(old: str, new: str) -> None:
    assert old in TRACKER
    assert found(TRACKER.replace(old, new, 1)) == []


def test_a_live_parameter_beside_its_start_is_none() -> None:
    source = """
    import torch
    w = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1)
    group = {"weight": w, "begin": w.detach().clone()}
    for _ in range(3):
        w.pow(2).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    print((group["weight"] - group["begin"]).norm())
    """
    assert found(source) == []
